//! The program's own code in memory. Most of it is run once, when the machine is made; what was mapped for that is given
//! back, and the little that is run again comes back from the page cache when it is.
#![allow(unsafe_code)] // the program's headers come by a callback of C, and madvise has no safe face

use std::ffi::{c_int, c_void};

/// Bytes of a page, which segments of code are aligned to in memory.
const PAGE: usize = 4096;

/// A range of addresses: the first one, and bytes.
type Range = (usize, usize);

/// Lets go of the pages of code and of constants. Nothing is lost: they are the file's, and nobody writes there.
/// Memory that is locked stays as it is.
pub fn rest() {
    // What a debugger wrote into the code would be lost.
    if cfg!(debug_assertions) {
        return;
    }
    for (from, len) in unwritable() {
        // SAFETY: whole pages of segments of the program's file that cannot be written, and were not made otherwise:
        // what is read there next is what was there before. A refusal leaves them as they are.
        unsafe { libc::madvise(from as *mut c_void, len, libc::MADV_DONTNEED) };
    }
}

/// Where the program's segments are that cannot be written, in whole pages.
fn unwritable() -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    // SAFETY: `first` is called with the data given here, during this call only.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut found).cast()) };
    found
}

/// Takes the segments of the first object, which is the program, and ends the walk.
///
/// # Safety
/// As dl_iterate_phdr(3) calls it, with a `Vec<Range>` as its data.
unsafe extern "C" fn first(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut c_void,
) -> c_int {
    // SAFETY: both live while this runs, and nobody else has them; the headers are as many as are said.
    let (info, found, headers) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info, &mut *found.cast::<Vec<Range>>(), headers)
    };
    let fixed = |header: &&libc::Elf64_Phdr| {
        header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0
    };
    for header in headers.iter().filter(fixed) {
        let range = info.dlpi_addr.checked_add(header.p_vaddr).and_then(|at| {
            let at = usize::try_from(at).ok()?;
            let end = at.checked_add(usize::try_from(header.p_memsz).ok()?)?;
            // Of a page at an edge it might be that not all is this segment's.
            let from = at.checked_next_multiple_of(PAGE)?;
            let len = (end / PAGE * PAGE).checked_sub(from)?;
            Some((from, len))
        });
        found.extend(range);
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_among_what_cannot_be_written_and_data_is_not() {
        static DATA: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(7);
        let ranges = unwritable();
        let within = |at: usize| {
            ranges
                .iter()
                .any(|(from, len)| (*from..*from + *len).contains(&at))
        };
        assert!(within(rest as fn() as usize));
        assert!(within("constant".as_ptr() as usize));
        assert!(!within((&raw const DATA) as usize));
        assert!(
            ranges
                .iter()
                .all(|(from, len)| from % PAGE == 0 && len % PAGE == 0 && *len > 0)
        );
    }
}
