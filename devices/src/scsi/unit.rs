//! A logical unit: what it is, what it is on, and what it wants to be known.

use std::sync::{Arc, Weak};

use block::{Attachment, SizeWatcher, WriteCache};

use super::attention::Attention;
use super::bus::{BusEvent, Events, Place};
use super::cdb::Command;
use super::identity::{Identity, Kind};
use super::media::Media;
use super::progress::Io;
use super::sense::Sense;
use super::target::{Action, DataOut, Medium, View, encode_sense};
use super::tray::Tray;
use super::{disc, tray};
use crate::cx::EffectSink;
use crate::disk_failure::Failures;

/// A logical unit on a bus. Shared by the threads that serve it; commands take no lock unless the
/// unit wants attention or has a tray.
pub struct Unit {
    place: Place,
    id: String,
    identity: Identity,
    attachment: Option<Arc<Attachment>>,
    failures: Option<Failures>,
    default_write_cache: WriteCache,
    attention: Arc<Attention>,
    media: Option<Arc<Media>>,
    events: Arc<Events>,
}

impl SizeWatcher for Unit {
    fn resized(&self) {
        self.capacity_changed();
    }
}

/// What a unit is made from.
pub(super) struct Parts {
    pub place: Place,
    pub id: String,
    pub identity: Identity,
    pub attachment: Option<Arc<Attachment>>,
    pub failures: Option<Failures>,
    pub effects: Arc<dyn EffectSink>,
}

impl Unit {
    pub(super) fn new(parts: Parts, events: Arc<Events>) -> Self {
        let Parts {
            place,
            id,
            identity,
            attachment,
            failures,
            effects,
        } = parts;
        let attention = Arc::new(Attention::default());
        attention.reset();
        let given = attachment.as_ref().map(|a| a.write_cache());
        let default_write_cache = identity.first_write_cache(given.unwrap_or(WriteCache::Back));
        let media = identity
            .removable
            .then(|| Media::new(&id, attachment.clone(), attention.clone(), effects))
            .map(Arc::new);
        if let (Some(attachment), Some(media)) = (&attachment, &media) {
            let media: Weak<Media> = Arc::downgrade(media);
            attachment.set_media(media);
        }
        let unit = Unit {
            place,
            id,
            identity,
            attachment,
            failures,
            default_write_cache,
            attention,
            media,
            events,
        };
        unit.set_write_cache(default_write_cache);
        unit
    }

    /// Where it is on its bus.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The key of its device.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it is on; an optical drive may have none.
    pub fn attachment(&self) -> Option<&Arc<Attachment>> {
        self.attachment.as_ref()
    }

    /// How it deals with failures of the host.
    pub(crate) fn failures(&self) -> Option<&Failures> {
        self.failures.as_ref()
    }

    /// Its tray, if its medium can be taken out.
    pub fn media(&self) -> Option<&Arc<Media>> {
        self.media.as_ref()
    }

    /// The back end has another size. Any thread. Drivers get no event of optical drives, as in
    /// QEMU: they ask for the size of a medium when they open it.
    pub fn capacity_changed(&self) {
        self.attention.raise(Sense::CAPACITY_CHANGED);
        if self.identity.kind == Kind::Cd {
            return;
        }
        self.events.post(BusEvent::Changed {
            place: self.place,
            sense: Sense::CAPACITY_CHANGED,
        });
    }

    pub(super) fn attention(&self) -> &Attention {
        &self.attention
    }

    pub(super) fn write_cache(&self) -> WriteCache {
        let cache = self.attachment.as_ref().map(|a| a.write_cache());
        cache.unwrap_or(self.default_write_cache)
    }

    pub(super) fn set_write_cache(&self, cache: WriteCache) {
        if let Some(attachment) = &self.attachment {
            attachment.set_write_cache(cache);
        }
    }

    fn view(&self) -> View<'_> {
        let medium = self.attachment.as_ref().filter(|a| a.has_medium());
        View {
            identity: &self.identity,
            medium: medium.map(|attachment| {
                let info = attachment.info();
                Medium {
                    bytes: info.size,
                    read_only: info.read_only,
                }
            }),
            tray: self.media.as_ref().map_or(Tray::default(), |m| m.tray()),
            write_cache: self.write_cache(),
            default_write_cache: self.default_write_cache,
        }
    }

    /// Begins a command: what is left to do is `Good`, `Check`, `Io` or `ReportLuns`.
    pub(crate) fn begin(&self, command: &Command, out: &dyn DataOut) -> Action {
        if !command.ignores_attention()
            && let Some(sense) = self.attention.take()
        {
            return Action::Check(sense);
        }
        self.carry_out(self.view().decide(command, out))
    }

    /// Carries out what concerns the unit's own state.
    fn carry_out(&self, action: Action) -> Action {
        let good = || Action::Good(Vec::new());
        match action {
            Action::SetWriteCache(cache) => {
                self.set_write_cache(cache);
                match cache {
                    WriteCache::Back => good(),
                    WriteCache::Through => Action::Io(Io::Flush),
                }
            }
            Action::Lock(locked) => {
                if let Some(media) = &self.media {
                    media.guest_locks(locked);
                }
                good()
            }
            Action::Eject => self.eject(),
            Action::Load => {
                if let Some(media) = &self.media {
                    media.guest_loads();
                }
                good()
            }
            Action::TakeSense { descriptor } => {
                let sense = self.attention.take().unwrap_or(Sense::NONE);
                Action::Good(encode_sense(sense, descriptor))
            }
            Action::TakeEvent { media } => Action::Good(self.event_status(media)),
            Action::Good(_) | Action::Check(_) | Action::Io(_) | Action::ReportLuns { .. } => {
                action
            }
        }
    }

    /// What was written to a medium that is taken out is on it before the guest is told so.
    fn eject(&self) -> Action {
        let Some(media) = &self.media else {
            return Action::Check(Sense::INVALID_FIELD);
        };
        let written = self.attachment.as_ref().filter(|a| a.has_medium());
        let written = written.is_some_and(|attachment| !attachment.is_read_only());
        match (media.guest_ejects(), written) {
            (Err(sense), _) => Action::Check(sense),
            (Ok(()), true) => Action::Io(Io::Flush),
            (Ok(()), false) => Action::Good(Vec::new()),
        }
    }

    fn event_status(&self, wanted: bool) -> Vec<u8> {
        let Some(media) = self.media.as_ref().filter(|_| wanted) else {
            return disc::event_status(None, false, tray::Loaded::Empty);
        };
        let (event, loaded) = media.take_event();
        disc::event_status(Some(event), media.is_open(), loaded)
    }

    /// Power-on, or a reset of the unit.
    pub(crate) fn reset(&self) {
        self.set_write_cache(self.default_write_cache);
        if let Some(media) = &self.media {
            media.reset();
        }
        self.attention.reset();
    }
}
