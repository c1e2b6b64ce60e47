//! Saved state of devices: named, versioned sections with named fields.
//!
//! A device declares `type State` once; the same section travels over a socket, into a file or
//! into an image. Bodies are CBOR maps with named fields, so a reader can refuse what it does not
//! know by name (DESIGN: an older program accepts a newer stream exactly when the new field is
//! unused).

use std::cell::Cell;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of most bodies.
const ENOUGH: usize = 16 << 10;
/// Bytes of room that a thread keeps for the next body.
const MOST_KEPT: usize = 64 << 10;

thread_local! {
    /// Where bodies are written first: each then takes the memory that it needs, once. A machine
    /// stands still while it is saved, and taking and giving back memory is most of what that costs.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A device that can be saved and restored. Called only when quiesced.
pub trait Snapshot {
    /// Named fields; each one defaulted and skipped when default.
    type State: Serialize + DeserializeOwned;
    /// Names the kind of section.
    const ID: &'static str;
    /// Rises only for an incompatible shape.
    const VERSION: u32;
    /// The state by value.
    fn save(&self) -> Self::State;
    /// Puts the state into an already built device.
    ///
    /// # Errors
    /// When the state does not fit this device.
    fn restore(&mut self, state: Self::State) -> Result<(), StateError>;
}

/// One device's saved state.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Section {
    /// [`Snapshot::ID`].
    pub id: String,
    /// Which one of several devices of a kind: its path in the machine.
    pub instance: String,
    /// [`Snapshot::VERSION`].
    pub version: u32,
    /// CBOR.
    #[serde(with = "bytes")]
    pub body: Vec<u8>,
}

impl Section {
    /// A section of a state that is no [`Snapshot`]'s: one that had to be asked for.
    ///
    /// # Errors
    /// When the state cannot be encoded.
    pub fn pack<S: Serialize>(
        id: &str,
        instance: &str,
        version: u32,
        state: &S,
    ) -> Result<Self, StateError> {
        let mut room = ROOM.take();
        room.clear();
        room.reserve(ENOUGH);
        let written = ciborium::into_writer(state, &mut room);
        let body = room.as_slice().to_vec();
        if room.capacity() <= MOST_KEPT {
            ROOM.set(room);
        }
        written.map_err(|error| refused(id, &error))?;
        Ok(Section {
            id: id.into(),
            instance: instance.into(),
            version,
            body,
        })
    }

    /// The state in it, which must be of this kind and version.
    ///
    /// # Errors
    /// When it is of another kind, version or shape.
    pub fn unpack<S: DeserializeOwned>(&self, id: &str, version: u32) -> Result<S, StateError> {
        if self.id != id {
            return Err(refused(id, &format!("found section '{}'", self.id)));
        }
        if self.version != version {
            return Err(StateError::Version {
                id: id.into(),
                found: self.version,
                supported: version,
            });
        }
        let mut rest = self.body.as_slice();
        let state = ciborium::from_reader(&mut rest).map_err(|error| refused(id, &error))?;
        if !rest.is_empty() {
            return Err(refused(id, &"trailing bytes"));
        }
        Ok(state)
    }
}

/// One byte string rather than a list of numbers.
mod bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        super::Blob::deserialize(deserializer).map(|super::Blob(bytes)| bytes)
    }
}

/// Why a state was refused.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The body is not what the device expects; names the field.
    #[error("Section '{id}': {reason}")]
    Body {
        /// Section.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A version this program does not know.
    #[error("Section '{id}': version {found} is not supported (supported: {supported})")]
    Version {
        /// Section.
        id: String,
        /// In the stream.
        found: u32,
        /// Here.
        supported: u32,
    },
}

/// The object-safe face of [`Snapshot`].
pub trait StateAccess {
    /// [`Snapshot::ID`] of its sections.
    fn section_id(&self) -> &'static str;
    /// Saves under an instance name.
    ///
    /// # Errors
    /// When the state cannot be encoded.
    fn save_section(&self, instance: &str) -> Result<Section, StateError>;
    /// Restores from a section.
    ///
    /// # Errors
    /// When the section is of another kind, version or shape.
    fn restore_section(&mut self, section: &Section) -> Result<(), StateError>;
}

impl<T: Snapshot> StateAccess for T {
    fn section_id(&self) -> &'static str {
        T::ID
    }

    fn save_section(&self, instance: &str) -> Result<Section, StateError> {
        Section::pack(T::ID, instance, T::VERSION, &self.save())
    }

    fn restore_section(&mut self, section: &Section) -> Result<(), StateError> {
        self.restore(section.unpack(T::ID, T::VERSION)?)
    }
}

fn refused(id: &str, reason: &dyn std::fmt::Display) -> StateError {
    StateError::Body {
        id: id.into(),
        reason: reason.to_string(),
    }
}

/// Raw bytes, saved as one byte string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Blob {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BlobVisitor)
    }
}

struct BlobVisitor;

impl serde::de::Visitor<'_> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("a byte string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(bytes.to_vec()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(bytes))
    }
}
