//! What a target says to its source.

use super::host::Broken;
use super::wire::{HEAD_LEN, Head, Kind, get_passed, get_reason, refuse};

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All pages up to the end of that pass are in memory.
    Passed(u32),
    /// All is loaded.
    Ready,
    /// It runs.
    Running,
    /// It will not run, and why.
    Refused(String),
}

impl Answer {
    /// What it means for the source.
    pub fn refusal(reason: &str) -> Broken {
        Broken::Failed(format!("The other side refused: {reason}"))
    }
}

/// Words as they come in.
#[derive(Debug, Default, Clone)]
pub struct Answers {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Answers {
    /// More came.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that were not taken yet.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the next word, when it is complete.
    ///
    /// # Errors
    /// When it is none.
    pub fn take(&mut self) -> Result<Option<Answer>, Broken> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<HEAD_LEN>() else {
            return Ok(None);
        };
        let head = Head::decode(head, self.sequence)?;
        let len = usize::try_from(head.len).unwrap_or(usize::MAX);
        if !matches!(
            head.kind,
            Kind::Passed | Kind::Ready | Kind::Running | Kind::Refused
        ) {
            return Err(refuse(head.kind.name(), "kind", "is no answer"));
        }
        let Some(payload) = rest.get(..len) else {
            return Ok(None);
        };
        head.check(payload)?;
        let answer = match head.kind {
            Kind::Passed => Answer::Passed(get_passed(payload)?),
            Kind::Ready => Answer::Ready,
            Kind::Running => Answer::Running,
            _ => Answer::Refused(get_reason(payload)),
        };
        self.bytes.drain(..HEAD_LEN.saturating_add(len));
        self.sequence = self.sequence.wrapping_add(1);
        Ok(Some(answer))
    }

    /// Why the other side refused, if it did.
    pub fn refusal(&self) -> Option<Broken> {
        let mut copy = self.clone();
        while let Ok(Some(answer)) = copy.take() {
            if let Answer::Refused(reason) = answer {
                return Some(Answer::refusal(&reason));
            }
        }
        None
    }
}
