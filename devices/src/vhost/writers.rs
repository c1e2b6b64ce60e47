//! Everybody who writes guest RAM without this process seeing it, and where they mark what they
//! wrote while a migration logs that.
//!
//! Whoever begins to serve rings joins, and leaves before it stops. The log is switched on and off
//! for all of them at once, and who joins meanwhile begins with it.

use std::io;
use std::sync::{Arc, Mutex, Weak};

use super::{DirtyLog, Party, Ring};
use crate::bus::lock;
use crate::ram::RamHandle;

/// Somebody who writes guest RAM.
pub trait Writer: Send + Sync {
    /// Marks the pages it writes in `log` from now on, or no longer.
    ///
    /// # Errors
    /// When it cannot.
    fn set_log(&self, log: Option<&DirtyLog>) -> io::Result<()>;
}

/// Says why a machine cannot migrate at the moment; `None` when it can. Any thread.
pub type Blocker = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// All of them, of one machine; clones are the same.
#[derive(Clone, Default)]
pub struct Writers(Arc<Mutex<Inner>>);

/// What the lock protects. It is held while writers are told of the log, so that none leaves
/// meanwhile: as long as the kernel takes, or a peer is waited for. Under it only their own leaves.
#[derive(Default)]
struct Inner {
    log: Option<DirtyLog>,
    writers: Vec<(u64, Arc<dyn Writer>)>,
    blockers: Vec<(u64, Blocker)>,
    next: u64,
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

impl Writers {
    /// All mark the pages they write in `log` from now on, or no longer. Blocks for a moment.
    ///
    /// # Errors
    /// When one cannot. None does then.
    pub fn set_log(&self, log: Option<DirtyLog>) -> io::Result<()> {
        let mut inner = lock(&self.0);
        let set = |log: Option<&DirtyLog>| {
            let mut writers = inner.writers.iter();
            writers.try_for_each(|(_, writer)| writer.set_log(log))
        };
        if let Err(error) = set(log.as_ref()) {
            for (_, writer) in &inner.writers {
                if let Err(error) = writer.set_log(None) {
                    log::warn!("A log of written pages cannot be ended: {error}");
                }
            }
            inner.log = None;
            return Err(error);
        }
        inner.log = log;
        Ok(())
    }

    /// Why the machine cannot migrate, for people; none for most.
    pub fn blockers(&self) -> Vec<String> {
        let inner = lock(&self.0);
        let blockers = inner.blockers.iter();
        blockers.filter_map(|(_, blocker)| blocker()).collect()
    }

    /// Something is one of them until the membership is dropped. `begin` has it begin, with the
    /// log that is in use.
    ///
    /// # Errors
    /// Those of `begin`.
    pub fn join(
        &self,
        begin: impl FnOnce(Option<&DirtyLog>) -> io::Result<Arc<dyn Writer>>,
    ) -> io::Result<Membership> {
        let mut inner = lock(&self.0);
        let writer = begin(inner.log.as_ref())?;
        let number = inner.number();
        inner.writers.push((number, writer));
        Ok(self.membership(number))
    }

    /// Something may keep the machine from migrating until the membership is dropped.
    pub fn block(&self, blocker: Blocker) -> Membership {
        let mut inner = lock(&self.0);
        let number = inner.number();
        inner.blockers.push((number, blocker));
        self.membership(number)
    }

    fn membership(&self, number: u64) -> Membership {
        Membership {
            of: Arc::downgrade(&self.0),
            number,
        }
    }
}

/// Dropping it leaves: nobody speaks to the member afterwards.
#[must_use = "it leaves when it is dropped"]
pub struct Membership {
    of: Weak<Mutex<Inner>>,
    number: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let Some(of) = self.of.upgrade() else {
            return;
        };
        let mut inner = lock(&of);
        let at = |number: u64| number == self.number;
        let writer = inner.writers.iter().position(|(number, _)| at(*number));
        let writer = writer.map(|at| inner.writers.remove(at));
        let blocker = inner.blockers.iter().position(|(number, _)| at(*number));
        let blocker = blocker.map(|at| inner.blockers.remove(at));
        drop(inner);
        // They may go with it, which is no affair of the lock's.
        drop((writer, blocker));
    }
}

/// A party with the rings that it serves.
pub(super) struct Serving {
    pub party: Arc<dyn Party>,
    pub ram: RamHandle,
    pub rings: Vec<Ring>,
}

impl Writer for Serving {
    fn set_log(&self, log: Option<&DirtyLog>) -> io::Result<()> {
        self.party.set_log(&self.ram, &self.rings, log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fake {
        log: Mutex<Option<u64>>,
        refuses: bool,
    }

    impl Writer for Fake {
        fn set_log(&self, log: Option<&DirtyLog>) -> io::Result<()> {
            *lock(&self.log) = log.map(|log| log.len);
            match self.refuses && log.is_some() {
                true => Err(io::ErrorKind::Unsupported.into()),
                false => Ok(()),
            }
        }
    }

    fn log(len: u64) -> DirtyLog {
        DirtyLog {
            address: 0,
            len,
            file: Arc::new(tempfile::tempfile().unwrap()),
        }
    }

    fn join(writers: &Writers, refuses: bool) -> (Arc<Fake>, Membership) {
        let fake = Arc::new(Fake {
            refuses,
            ..Fake::default()
        });
        let joins = fake.clone();
        let begun = writers.join(|log| {
            joins.set_log(log)?;
            Ok(joins)
        });
        (fake, begun.unwrap())
    }

    #[test]
    fn all_log_or_none() {
        let writers = Writers::default();
        let (one, stays) = join(&writers, false);
        writers.set_log(Some(log(1))).unwrap();
        let (two, leaves) = join(&writers, false);
        assert_eq!((*lock(&one.log), *lock(&two.log)), (Some(1), Some(1)));
        drop(leaves);
        writers.set_log(None).unwrap();
        assert_eq!((*lock(&one.log), *lock(&two.log)), (None, Some(1)));
        assert_eq!(Arc::strong_count(&two), 1);
        let (_three, refuses) = join(&writers, true);
        writers.set_log(Some(log(2))).unwrap_err();
        assert_eq!(*lock(&one.log), None);
        drop(refuses);
        writers.set_log(Some(log(3))).unwrap();
        assert_eq!(*lock(&one.log), Some(3));
        drop(stays);
    }

    #[test]
    fn who_does_not_begin_is_no_member() {
        let writers = Writers::default();
        let refused = writers.join(|_| Err(io::ErrorKind::Other.into()));
        assert!(refused.is_err());
        assert!(lock(&writers.0).writers.is_empty());
    }

    #[test]
    fn blockers_come_and_go() {
        let writers = Writers::default();
        let _never = writers.block(Box::new(|| None));
        let always = writers.block(Box::new(|| Some("no".to_owned())));
        assert_eq!(writers.blockers(), ["no"]);
        drop(always);
        assert_eq!(writers.blockers(), Vec::<String>::new());
    }
}
