//! From a stream of bytes to JSON values: no newline is needed, several values may come in one
//! piece and one value in many, and garbage costs no more than itself.

use crate::strict::Strict;
use api_spec::Value;

/// Bytes of one value at most.
pub const MAX_SIZE: usize = 64 << 20;
/// Nesting of one value at most.
pub const MAX_NESTING: usize = 127;

/// Tokens of one value at most: some milliseconds of work, which is all that one client may take
/// from the others. The largest messages of real clients have some thousands.
pub const MAX_TOKENS: usize = 1 << 17;

/// What was cut out of the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A complete value.
    Value(Value),
    /// Something that is no JSON: what the client is told.
    Error(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between values.
    Idle,
    /// In a value that begins with a brace or bracket.
    Value,
    /// In a string of it, with this quote.
    Text(u8),
    /// After a backslash in such a string.
    Escape(u8),
    /// In a bare word between values.
    Word,
    /// Skipping until something that may begin a value.
    Recovery,
}

/// Cuts values out of a stream. Memory is bounded by [`MAX_SIZE`].
#[derive(Debug)]
pub struct Splitter {
    state: State,
    buffer: Vec<u8>,
    braces: i64,
    brackets: i64,
    /// So far, but for the values of lists and members.
    tokens: usize,
    /// The value is too large: its rest is skipped, not stored.
    discard: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Splitter {
            state: State::Idle,
            buffer: Vec::new(),
            braces: 0,
            brackets: 0,
            tokens: 0,
            discard: false,
        }
    }
}

impl Splitter {
    /// Whether a value has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.state != State::Idle
    }

    /// Takes bytes in and appends what they complete to `out`.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<Frame>) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.state == State::Idle
                && byte == b'{'
                && let Some(len) = self.whole_value(bytes, out)
            {
                bytes = bytes.get(len..).unwrap_or_default();
                continue;
            }
            if self.step(byte, out) {
                bytes = rest;
            }
        }
    }

    /// Fast path: a plain object that lies whole in the input.
    fn whole_value(&mut self, bytes: &[u8], out: &mut Vec<Frame>) -> Option<usize> {
        let end = plain_object_end(bytes)?;
        let Strict(value) = serde_json::from_slice(bytes.get(..end)?).ok()?;
        out.push(Frame::Value(value));
        Some(end)
    }

    /// Returns whether the byte was used up.
    fn step(&mut self, byte: u8, out: &mut Vec<Frame>) -> bool {
        let control = (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0xff;
        match self.state {
            State::Idle => self.begin(byte, control, out),
            State::Recovery => {
                if control || matches!(byte, b'\n' | b'{' | b'[') {
                    self.state = State::Idle;
                    return !matches!(byte, b'{' | b'[');
                }
                true
            }
            State::Word => {
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.') {
                    self.store(byte, out);
                    return true;
                }
                self.end_word(out);
                false
            }
            _ if control => {
                self.fail("JSON parse error, invalid control character".into(), out);
                true
            }
            State::Text(_) | State::Escape(_) if byte == b'\n' || byte == b'\r' => {
                self.fail("JSON parse error, unterminated string".into(), out);
                true
            }
            State::Text(quote) => {
                self.state = match byte {
                    b'\\' => State::Escape(quote),
                    b if b == quote => self.after_string(),
                    _ => State::Text(quote),
                };
                self.store(byte, out);
                self.end_if_complete(out);
                true
            }
            State::Escape(quote) => {
                self.state = State::Text(quote);
                self.store(byte, out);
                true
            }
            State::Value => {
                self.structure(byte);
                self.store(byte, out);
                if self.depth() > MAX_NESTING as i64 && !self.discard {
                    out.push(Frame::Error("JSON nesting depth limit exceeded".into()));
                    self.drop_rest();
                }
                if self.tokens > MAX_TOKENS / 2 && !self.discard {
                    out.push(Frame::Error("JSON token count limit exceeded".into()));
                    self.drop_rest();
                }
                self.end_if_complete(out);
                true
            }
        }
    }

    fn begin(&mut self, byte: u8, control: bool, out: &mut Vec<Frame>) -> bool {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b'{' | b'[' => {
                self.state = State::Value;
                self.structure(byte);
                self.buffer.push(byte);
            }
            b'"' | b'\'' => {
                self.state = State::Text(byte);
                self.buffer.push(byte);
            }
            b if b.is_ascii_alphanumeric() || b == b'-' => {
                self.state = State::Word;
                self.buffer.push(byte);
            }
            _ if control => out.push(Frame::Error("JSON parse error, stray control byte".into())),
            _ => {
                let shown = char::from(byte).escape_default();
                out.push(Frame::Error(format!("JSON parse error, stray '{shown}'")));
                self.state = State::Recovery;
            }
        }
        true
    }

    fn structure(&mut self, byte: u8) {
        // Each of them stands for itself and for what comes before the next.
        if matches!(byte, b'{' | b'[' | b',' | b':') {
            self.tokens += 1;
        }
        match byte {
            b'{' => self.braces += 1,
            b'}' => self.braces -= 1,
            b'[' => self.brackets += 1,
            b']' => self.brackets -= 1,
            b'"' | b'\'' => self.state = State::Text(byte),
            _ => {}
        }
    }

    fn depth(&self) -> i64 {
        self.braces.max(0) + self.brackets.max(0)
    }

    fn after_string(&self) -> State {
        State::Value
    }

    fn store(&mut self, byte: u8, out: &mut Vec<Frame>) {
        if self.discard {
            return;
        }
        if self.buffer.len() >= MAX_SIZE {
            out.push(Frame::Error("JSON token size limit exceeded".into()));
            self.drop_rest();
            return;
        }
        self.buffer.push(byte);
    }

    fn drop_rest(&mut self) {
        self.buffer = Vec::new();
        self.discard = true;
    }

    fn end_if_complete(&mut self, out: &mut Vec<Frame>) {
        let balanced = self.braces <= 0 && self.brackets <= 0;
        let broken = self.braces < 0 || self.brackets < 0;
        if self.state == State::Value && (balanced || broken) {
            if !self.discard {
                out.push(parse(&self.buffer));
            }
            self.reset(State::Idle);
        }
    }

    fn end_word(&mut self, out: &mut Vec<Frame>) {
        let frame = match parse(&self.buffer) {
            Frame::Error(_) => Frame::Error(format!(
                "JSON parse error, invalid keyword '{}'",
                String::from_utf8_lossy(self.buffer.get(..64).unwrap_or(&self.buffer))
            )),
            value => value,
        };
        let failed = matches!(frame, Frame::Error(_));
        if !self.discard {
            out.push(frame);
        }
        self.reset(if failed { State::Recovery } else { State::Idle });
    }

    fn fail(&mut self, text: String, out: &mut Vec<Frame>) {
        if !self.discard {
            out.push(Frame::Error(text));
        }
        self.reset(State::Idle);
    }

    fn reset(&mut self, state: State) {
        // A burst must not keep its memory for ever.
        if self.buffer.capacity() > 1 << 16 {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        (self.state, self.braces, self.brackets) = (state, 0, 0);
        (self.tokens, self.discard) = (0, false);
    }
}

/// Where an object that begins here ends, if it is plain (no control characters, no single
/// quotes, not deep) and lies whole in `bytes`.
fn plain_object_end(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut text, mut escape) = (0usize, false, false);
    for (i, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if escape => escape = false,
            b'\\' if text => escape = true,
            b'"' => text = !text,
            b'\'' if !text => return None,
            0..0x20 | 0xff if text || !matches!(byte, b'\t' | b'\n' | b'\r') => return None,
            _ if text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
        if depth > MAX_NESTING {
            return None;
        }
    }
    None
}

fn parse(bytes: &[u8]) -> Frame {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Frame::Error("JSON parse error, invalid UTF-8 sequence in string".into());
    };
    let text = api_spec::keyval::normalize_quotes(text);
    match serde_json::from_str(&text) {
        Ok(Strict(value)) => Frame::Value(value),
        Err(error) => Frame::Error(format!("JSON parse error, {}", reason(&error))),
    }
}

/// The parser's words without its line and column, which mean nothing in a stream.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cut = text.rfind(" at line ").unwrap_or(text.len());
    text.get(..cut).unwrap_or(&text).to_string()
}

#[cfg(test)]
#[path = "framing_test.rs"]
mod tests;
