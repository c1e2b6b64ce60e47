//! A page of the host that the guest gave back in pieces.

use crate::discard::{GUEST_PAGE, HostPage};

/// Which of the guest's pages in one page of the host are in the balloon. Only one page of the
/// host is followed at a time: a guest that wants memory back in large pages gives them whole.
#[derive(Debug, Default)]
pub struct Partial {
    page: Option<HostPage>,
    given: Vec<bool>,
    count: usize,
}

impl Partial {
    /// The guest gave the page at `address`, in `page`. Whether the host's page is whole now; it
    /// is forgotten then.
    pub fn give(&mut self, page: HostPage, address: u64) -> bool {
        if self.page != Some(page) {
            self.begin(page);
        }
        let index = index(page, address);
        if let Some(given) = self.given.get_mut(index)
            && !std::mem::replace(given, true)
        {
            self.count = self.count.saturating_add(1);
        }
        let whole = self.count == self.given.len();
        if whole {
            self.forget();
        }
        whole
    }

    /// The guest took the page at `address` back.
    pub fn take(&mut self, address: u64) {
        let Some(page) = self.page else { return };
        let inside = address
            .checked_sub(page.base)
            .is_some_and(|at| at < page.len);
        let given = self.given.get_mut(index(page, address));
        if let (true, Some(given)) = (inside, given)
            && std::mem::replace(given, false)
        {
            self.count = self.count.saturating_sub(1);
        }
    }

    /// Whether nothing is followed.
    pub fn is_empty(&self) -> bool {
        self.page.is_none()
    }

    fn begin(&mut self, page: HostPage) {
        let pieces = usize::try_from(page.len / GUEST_PAGE).unwrap_or(0);
        self.given.clear();
        self.given.resize(pieces, false);
        self.count = 0;
        self.page = Some(page);
    }

    fn forget(&mut self) {
        self.page = None;
        self.count = 0;
    }
}

fn index(page: HostPage, address: u64) -> usize {
    let at = address.saturating_sub(page.base) / GUEST_PAGE;
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUGE: u64 = 2 << 20;

    fn page(base: u64) -> HostPage {
        HostPage { base, len: HUGE }
    }

    #[test]
    fn whole_when_every_piece_was_given() {
        let mut partial = Partial::default();
        let (one, other) = (page(HUGE), page(4 * HUGE));
        let addresses = |page: HostPage| (0..512u64).map(move |n| page.base + n * GUEST_PAGE);
        for address in addresses(one).rev().take(511) {
            assert!(!partial.give(one, address));
            assert!(!partial.give(one, address), "twice is once");
        }
        partial.take(one.base + 7 * GUEST_PAGE);
        partial.take(one.base + 7 * GUEST_PAGE);
        partial.take(0);
        partial.take(u64::MAX);
        assert!(!partial.give(one, one.base));
        assert!(partial.give(one, one.base + 7 * GUEST_PAGE));
        assert!(partial.is_empty());
        // Another page makes the first one forgotten.
        assert!(!partial.give(one, one.base));
        assert!(!partial.give(other, other.base));
        let whole = addresses(one).filter(|at| partial.give(one, *at)).count();
        assert_eq!(whole, 1);
    }
}
