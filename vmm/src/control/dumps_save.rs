//! memsave and pmemsave: pieces of guest memory into files of their own.

use api_spec::{MemsaveArgs, PmemsaveArgs, QmpError, QmpResult};

use super::Control;
use super::dumps::{create, no_thread};
use super::fds::Opener;
use crate::dump::guest::GuestMemory;
use crate::dump::output::Output;
use crate::dump::paging::Paging;

/// Pages of virtual memory are looked up one by one.
const PAGE: u64 = 4096;

/// A piece of memory, and the file for it.
struct Save {
    memory: GuestMemory,
    /// Virtual addresses, translated in this way where that is on.
    space: Space,
    begin: u64,
    len: u64,
    file: String,
}

enum Space {
    Physical,
    Virtual(Option<Paging>),
}

impl Control {
    /// memsave.
    pub(super) fn save_virtual(
        &mut self,
        args: MemsaveArgs,
        answer: impl FnOnce(QmpResult<()>) + Send + 'static,
    ) {
        let MemsaveArgs {
            val,
            size,
            filename,
            cpu_index,
        } = args;
        let space = match self.paging_of(cpu_index) {
            Ok(paging) => Space::Virtual(paging),
            Err(error) => return answer(Err(error)),
        };
        self.save(space, (val, size), filename, answer);
    }

    /// pmemsave.
    pub(super) fn save_physical(
        &mut self,
        args: PmemsaveArgs,
        answer: impl FnOnce(QmpResult<()>) + Send + 'static,
    ) {
        let PmemsaveArgs {
            val,
            size,
            filename,
        } = args;
        self.save(Space::Physical, (val, size), filename, answer);
    }

    fn paging_of(&self, index: Option<i64>) -> QmpResult<Option<Paging>> {
        let unknown = || QmpError::wrong_value("cpu-index", "a CPU number");
        let machine = self.machine.as_ref().ok_or_else(unknown)?;
        let index = usize::try_from(index.unwrap_or(0)).map_err(|_| unknown())?;
        if index >= machine.cpu_count() {
            return Err(unknown());
        }
        let cpu = machine.cpu(index).map_err(QmpError::generic)?;
        Ok(Paging::of(&cpu))
    }

    fn save(
        &mut self,
        space: Space,
        (begin, size): (i64, i64),
        file: String,
        answer: impl FnOnce(QmpResult<()>) + Send + 'static,
    ) {
        let Ok(len) = u64::try_from(size) else {
            return answer(Err(QmpError::wrong_value("size", "a size")));
        };
        let save = Save {
            memory: self.guest_memory(),
            space,
            begin: begin.cast_unsigned(),
            len,
            file,
        };
        let opener = self.fds.opener();
        self.tell_slowly(move || save.write(&opener), answer);
    }

    /// RAM; none without a machine.
    pub(super) fn guest_memory(&self) -> GuestMemory {
        let machine = self.machine.as_ref();
        machine.map_or_else(GuestMemory::default, |machine| machine.guest_memory())
    }

    /// Does slow work on a thread of its own and gives its result to `answer`; an error where
    /// there is no thread.
    pub(super) fn tell_slowly<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> QmpResult<T> + Send + 'static,
        answer: impl FnOnce(QmpResult<T>) + Send + 'static,
    ) {
        let answer = std::sync::Arc::new(std::sync::Mutex::new(Some(answer)));
        let later = answer.clone();
        let started = self.do_slowly(work, move |_, result| {
            if let Some(answer) = devices::bus::lock(&later).take() {
                answer(result);
            }
        });
        if let Err(error) = started
            && let Some(answer) = devices::bus::lock(&answer).take()
        {
            answer(Err(no_thread(&error)));
        }
    }
}

impl Save {
    fn write(&self, opener: &Opener) -> QmpResult<()> {
        let file = create(opener, &self.file, 0o666, "open")?;
        let mut out = Output::new(file);
        match self.space {
            Space::Physical => self.physical(&mut out)?,
            Space::Virtual(paging) => self.virtual_memory(paging, &mut out)?,
        }
        out.finish().map_err(|_| self.failed())
    }

    fn failed(&self) -> QmpError {
        QmpError::generic(format!("writing memory to '{}' failed", self.file))
    }

    /// What is no RAM is zeroes.
    fn physical(&self, out: &mut Output) -> QmpResult<()> {
        let part = self.memory.part(self.begin, self.len);
        let mut at = self.begin;
        for range in part.ranges() {
            out.zeroes(range.base.saturating_sub(at))
                .and_then(|()| out.memory(range, 0, range.len))
                .map_err(|_| self.failed())?;
            at = range.end();
        }
        let rest = self.len.saturating_sub(out.position());
        out.zeroes(rest).map_err(|_| self.failed())
    }

    fn virtual_memory(&self, paging: Option<Paging>, out: &mut Output) -> QmpResult<()> {
        let invalid = || {
            let (begin, len) = (self.begin, self.len);
            QmpError::generic(format!("Invalid addr {begin:#018x}/size {len} specified"))
        };
        let mut done = 0u64;
        while done < self.len {
            let at = self.begin.checked_add(done).ok_or_else(invalid)?;
            let in_page = PAGE.saturating_sub(at % PAGE);
            let len = in_page.min(self.len.saturating_sub(done));
            let physical = match paging {
                Some(paging) => {
                    paging.translate(&|gpa, bytes: &mut [u8]| self.memory.read(gpa, bytes), at)
                }
                None => Some(at),
            };
            let physical = physical.ok_or_else(invalid)?;
            let range = self.memory.find(physical).ok_or_else(invalid)?;
            let from = physical.saturating_sub(range.base);
            if range.host(from, len).is_none() {
                return Err(invalid());
            }
            out.memory(range, from, len).map_err(|_| self.failed())?;
            done = done.saturating_add(len);
        }
        Ok(())
    }
}
