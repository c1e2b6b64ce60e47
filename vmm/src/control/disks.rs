//! Commands about disks that take their time: new images, checks, media.

use std::sync::{Arc, Mutex};

use api_spec::reply::Empty;
use api_spec::{
    BlockdevChangeMediumArgs, BlockdevChangeReadOnlyMode, BlockdevCheckArgs, BlockdevCheckFix,
    BlockdevCreateArgs, Encode, Event, ImageCheck, JobType, QmpError, QmpResult, Reply,
};

use block::BackendName;

use super::Control;
use super::blockdev::check_creatable;
use super::blockdev::media::{Place, backend_name, device_path};
use super::commands::empty;
use super::jobs::{Behaviour, Body, JobSpec};
use crate::process::errno;

impl Control {
    /// blockdev-create. What is wrong with files is the job's error.
    ///
    /// # Errors
    /// When the job's name is none or taken, or such images cannot be made.
    pub(super) fn create_image(&mut self, args: BlockdevCreateArgs) -> QmpResult<()> {
        let BlockdevCreateArgs { job_id, options } = args;
        check_creatable(&options)?;
        self.jobs.check(&job_id)?;
        let opened = self.blockdevs.new_image(options, &mut self.fds.opener());
        let body: Body = Box::new(move |cx| {
            cx.set_remaining(1);
            let image = opened.map_err(|refusal| refusal.error.desc)?;
            let made = image.make(&|| !cx.is_cancelled());
            cx.advance(1);
            made.map(|()| None).map_err(|error| error.to_string())
        });
        let spec = JobSpec {
            id: job_id,
            kind: JobType::Create,
            behaviour: Behaviour {
                auto_finalize: true,
                auto_dismiss: false,
                completable: false,
            },
        };
        self.start_job(spec, body)
    }

    /// blockdev-check.
    pub(super) fn check_image(&mut self, args: &BlockdevCheckArgs, reply: Reply<ImageCheck>) {
        let fix = args.fix.unwrap_or(BlockdevCheckFix::None);
        let check = self
            .blockdevs
            .check(&args.node_name, fix, &mut self.fds.opener());
        match check {
            Err(refusal) => reply.send(Err(refusal.into())),
            Ok(check) => self.answer_later(
                reply,
                move || check.run(),
                |_, checked| checked.map_err(QmpError::from),
            ),
        }
    }

    /// A device's or a drive's place for a medium.
    ///
    /// # Errors
    /// When there is no such device, or it is none of disks.
    pub(super) fn place(&self, device: Option<&str>, id: Option<&str>) -> QmpResult<Place> {
        let target = backend_name(device, id)?;
        if let Some(place) = self.blockdevs.place(target) {
            return Ok(place);
        }
        match target {
            BackendName::Device(id) if self.list_object(&device_path(id)).is_ok() => Err(
                QmpError::generic("Device does not have a block device backend"),
            ),
            BackendName::Device(words) | BackendName::Drive(words) => {
                Err(QmpError::device_not_found(words))
            }
        }
    }

    /// Does something with a medium on a worker thread, tells of the tray, and answers.
    pub(super) fn with_place<R: Encode + 'static>(
        &mut self,
        place: QmpResult<Place>,
        reply: Reply<R>,
        answer: fn(QmpResult<()>) -> QmpResult<R>,
        work: impl FnOnce(&mut Place) -> QmpResult<()> + Send + 'static,
    ) {
        let mut place = match place {
            Ok(place) => place,
            Err(error) => return reply.send(answer(Err(error))),
        };
        let work = move || {
            let result = place.in_turn(work);
            let moved = std::mem::take(&mut place.moved);
            drop(place);
            (moved, result)
        };
        self.answer_slowly(reply, work, move |control, (moved, result)| {
            for tray in moved {
                control.emit(Event::DeviceTrayMoved {
                    device: tray.drive,
                    id: tray.device,
                    tray_open: tray.open,
                });
            }
            answer(result)
        });
    }

    /// blockdev-insert-medium.
    pub(super) fn insert_medium(&mut self, id: &str, node: String, reply: Reply<Empty>) {
        let place = self.place(None, Some(id)).and_then(|place| {
            self.blockdevs.check_free(&node)?;
            Ok(place)
        });
        self.with_place(place, reply, empty, move |place| place.insert(&node));
    }

    /// blockdev-change-medium.
    pub(super) fn change_medium<R: Encode + 'static>(
        &mut self,
        args: BlockdevChangeMediumArgs,
        reply: Reply<R>,
        answer: fn(QmpResult<()>) -> QmpResult<R>,
    ) {
        let BlockdevChangeMediumArgs {
            device,
            id,
            filename,
            format,
            force,
            read_only_mode,
        } = args;
        let mode = read_only_mode.unwrap_or(BlockdevChangeReadOnlyMode::Retain);
        let opened = self
            .place(device.as_deref(), id.as_deref())
            .and_then(|place| {
                let opener = &mut self.fds.opener();
                let format = format.as_deref();
                let medium = self
                    .blockdevs
                    .new_medium(&place, &filename, format, mode, opener)?;
                Ok((place, medium))
            });
        let (place, medium) = match opened {
            Ok((place, medium)) => (Ok(place), Some(medium)),
            Err(error) => (Err(error), None),
        };
        self.with_place(place, reply, answer, move |place| match medium {
            Some(medium) => place.change(&medium, force.unwrap_or(false)),
            None => Ok(()),
        });
    }

    /// Answers with the result of slow work, which is not cut short by the end of the program.
    pub(super) fn answer_slowly<T: Send + 'static, R: Encode + 'static>(
        &self,
        reply: Reply<R>,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut Control, T) -> QmpResult<R> + Send + 'static,
    ) {
        let underway = self.unfinished.begin();
        let work = move || {
            let result = work();
            drop(underway);
            result
        };
        self.answer_later(reply, work, then);
    }

    /// Answers with the result of slow work, if the program lives to see it.
    pub(super) fn answer_later<T: Send + 'static, R: Encode + 'static>(
        &self,
        reply: Reply<R>,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut Control, T) -> QmpResult<R> + Send + 'static,
    ) {
        // Shared, so that it can be given where there is no thread for the work.
        let reply = Arc::new(Mutex::new(Some(reply)));
        let later = reply.clone();
        let started = self.do_slowly(work, move |control, value| {
            let result = then(control, value);
            send(&later, result);
        });
        if let Err(error) = started {
            let text = format!("Cannot start a thread: {}", errno(&error));
            send(&reply, Err(QmpError::generic(text)));
        }
    }
}

fn send<R: Encode>(reply: &Mutex<Option<Reply<R>>>, result: QmpResult<R>) {
    if let Some(reply) = devices::bus::lock(reply).take() {
        reply.send(result);
    }
}
