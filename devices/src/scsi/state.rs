//! Saved state of logical units; it travels with their controller's.

use block::WriteCache;
use serde::{Deserialize, Serialize};

use super::bus::Place;
use super::sense::Sense;
use super::tray::Tray;
use super::unit::Unit;

/// A logical unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnitV1 {
    /// Its target.
    pub target: u8,
    /// Its number at the target.
    pub lun: u16,
    /// Writes are durable when they are done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub write_through: bool,
    /// Unit attentions that wait: sense key, additional code, qualifier.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<(u8, u8, u8)>,
    /// Its tray, where that is not as after power-on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tray: Option<TrayV1>,
}

/// A tray.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrayV1 {
    /// It is open.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// The guest locked it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// The guest is to eject.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub eject_asked: bool,
    /// The guest has not heard of another medium.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

/// Unit attentions of one unit; more are no unit's.
const MOST_ATTENTIONS: usize = 16;

impl UnitV1 {
    /// Where the unit is.
    pub fn place(&self) -> Place {
        Place {
            target: self.target,
            lun: self.lun,
        }
    }
}

impl Unit {
    pub(crate) fn save(&self) -> UnitV1 {
        let Place { target, lun } = self.place();
        let tray = self.media().map(|media| media.tray());
        let triple = |sense: Sense| (sense.key, sense.asc, sense.ascq);
        UnitV1 {
            target,
            lun,
            write_through: self.write_cache() == WriteCache::Through,
            attention: self.attention().waiting().into_iter().map(triple).collect(),
            tray: tray.filter(|tray| *tray != Tray::default()).map(
                |Tray {
                     open,
                     locked,
                     eject_asked,
                     changed,
                 }| TrayV1 {
                    open,
                    locked,
                    eject_asked,
                    changed,
                },
            ),
        }
    }

    /// # Errors
    /// With what does not fit.
    pub(crate) fn restore(&self, state: UnitV1) -> Result<(), String> {
        let UnitV1 {
            target,
            lun,
            write_through,
            attention,
            tray,
        } = state;
        if tray.is_some() && self.media().is_none() {
            return Err(format!("unit {target}:{lun}: it has no tray"));
        }
        if attention.len() > MOST_ATTENTIONS {
            return Err(format!("unit {target}:{lun}: too many attentions"));
        }
        self.set_write_cache(match write_through {
            true => WriteCache::Through,
            false => WriteCache::Back,
        });
        let sense = |(key, asc, ascq)| Sense { key, asc, ascq };
        self.attention()
            .set(attention.into_iter().map(sense).collect());
        if let Some(media) = self.media() {
            let TrayV1 {
                open,
                locked,
                eject_asked,
                changed,
            } = tray.unwrap_or_default();
            media.put_tray(Tray {
                open,
                locked,
                eject_asked,
                changed,
            });
        }
        Ok(())
    }
}
