//! Connections that can be broken from the monitors' thread while control is busy or waits for
//! one of them.

use std::sync::{Arc, Mutex};

use api_spec::{
    ErrorClass, QmpError, QmpResult, YankInstance, YankInstanceBranch, YankInstanceChardev,
};
use devices::bus::lock;

/// Breaks a connection, if there is one. Called on the monitors' thread; never blocks.
pub type Yanker = Box<dyn Fn() + Send + Sync>;

/// Everything that can be yanked, in the order in which it came.
#[derive(Default)]
pub struct Yanks {
    /// Held while they are yanked, so that nobody leaves meanwhile. Above the locks of those.
    list: Mutex<Vec<Entry>>,
}

struct Entry {
    place: YankInstanceBranch,
    yanker: Arc<Yanker>,
}

/// A place in the list, given back when dropped.
pub struct YankPlace {
    yanks: Arc<Yanks>,
    yanker: Arc<Yanker>,
}

impl Yanks {
    /// Puts a character device on the list.
    pub fn add_chardev(self: &Arc<Self>, id: &str, yanker: Yanker) -> YankPlace {
        self.add(
            YankInstanceBranch::Chardev(YankInstanceChardev { id: id.to_owned() }),
            yanker,
        )
    }

    /// Puts the migration that is under way on the list.
    pub fn add_migration(self: &Arc<Self>, yanker: Yanker) -> YankPlace {
        self.add(YankInstanceBranch::Migration, yanker)
    }

    fn add(self: &Arc<Self>, place: YankInstanceBranch, yanker: Yanker) -> YankPlace {
        let yanker = Arc::new(yanker);
        lock(&self.list).push(Entry {
            place,
            yanker: yanker.clone(),
        });
        YankPlace {
            yanks: self.clone(),
            yanker,
        }
    }

    /// query-yank.
    pub fn query(&self) -> Vec<YankInstance> {
        let instance = |entry: &Entry| YankInstance {
            r#type: entry.place.clone(),
        };
        lock(&self.list).iter().map(instance).collect()
    }

    /// yank: all of them, or none.
    ///
    /// # Errors
    /// When one is not on the list.
    pub fn yank(&self, instances: &[YankInstance]) -> QmpResult<()> {
        let list = lock(&self.list);
        let find =
            |instance: &YankInstance| list.iter().find(|entry| entry.place == instance.r#type);
        let found: Option<Vec<_>> = instances.iter().map(find).collect();
        let found =
            found.ok_or_else(|| QmpError::new(ErrorClass::DeviceNotFound, "Instance not found"))?;
        for entry in found {
            (entry.yanker)();
        }
        Ok(())
    }
}

impl Drop for YankPlace {
    fn drop(&mut self) {
        lock(&self.yanks.list).retain(|entry| !Arc::ptr_eq(&entry.yanker, &self.yanker));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn chardev(id: &str) -> YankInstance {
        YankInstance {
            r#type: YankInstanceBranch::Chardev(YankInstanceChardev { id: id.into() }),
        }
    }

    #[test]
    fn all_are_yanked_or_none() {
        let yanks = Arc::new(Yanks::default());
        let count = Arc::new(AtomicU32::new(0));
        let counter = |count: &Arc<AtomicU32>| -> Yanker {
            let count = count.clone();
            Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            })
        };
        let first = yanks.add_chardev("a", counter(&count));
        let _second = yanks.add_chardev("b", counter(&count));
        assert_eq!(yanks.query(), [chardev("a"), chardev("b")]);
        let error = yanks.yank(&[chardev("a"), chardev("c")]).unwrap_err();
        assert_eq!(error.desc, "Instance not found");
        assert_eq!(count.load(Ordering::Relaxed), 0);
        yanks.yank(&[chardev("a"), chardev("b")]).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 2);
        let migration = YankInstance {
            r#type: YankInstanceBranch::Migration,
        };
        assert!(yanks.yank(std::slice::from_ref(&migration)).is_err());
        let third = yanks.add_migration(counter(&count));
        yanks.yank(&[migration]).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 3);
        drop((first, third));
        assert_eq!(yanks.query(), [chardev("b")]);
        assert!(yanks.yank(&[chardev("a")]).is_err());
    }
}
