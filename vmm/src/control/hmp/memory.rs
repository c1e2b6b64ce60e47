//! Text commands that look at memory and registers, read into what they ask for.

use api_spec::DumpGuestMemoryFormat as Format;

use super::Verb as All;
use super::expression::Expression;
use super::table::{Entry, entry};

/// A command about memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// dump-guest-memory.
    Dump,
    /// memsave.
    Save,
    /// pmemsave.
    SavePhysical,
    /// x.
    Show,
    /// xp.
    ShowPhysical,
    /// print.
    Print,
    /// cpu.
    Cpu,
    /// gva2gpa.
    ToPhysical,
    /// gpa2hva.
    ToHost,
}

/// `/4xb`: how many, how written, how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// How many.
    pub count: u64,
    /// How written: o, d, u, x, i or c.
    pub letter: Option<char>,
    /// Bytes of each.
    pub size: Option<u8>,
}

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry(
        "cpu",
        None,
        All::Memory(Verb::Cpu),
        "index",
        "choose the processor that other commands look at",
    ),
    entry(
        "dump-guest-memory",
        None,
        All::Memory(Verb::Dump),
        "[-p] [-d] [-z|-l|-s|-w] [-R] filename [begin length]",
        "write the guest's memory into a file (-p: at virtual addresses, -d: in the background, -z: kdump-compressed with zlib, -s: with snappy, -R: not in flattened form)",
    ),
    entry(
        "gpa2hva",
        None,
        All::Memory(Verb::ToHost),
        "addr",
        "tell where in this process guest memory is",
    ),
    entry(
        "gva2gpa",
        None,
        All::Memory(Verb::ToPhysical),
        "addr",
        "tell the physical address behind a virtual one",
    ),
    entry(
        "memsave",
        None,
        All::Memory(Verb::Save),
        "addr size file",
        "write memory at a virtual address into a file",
    ),
    entry(
        "pmemsave",
        None,
        All::Memory(Verb::SavePhysical),
        "addr size file",
        "write memory at a physical address into a file",
    ),
    entry(
        "print",
        Some("p"),
        All::Memory(Verb::Print),
        "/fmt expr",
        "show a value; $NAME is a register",
    ),
    entry(
        "x",
        None,
        All::Memory(Verb::Show),
        "/fmt addr",
        "show memory at a virtual address",
    ),
    entry(
        "xp",
        None,
        All::Memory(Verb::ShowPhysical),
        "/fmt addr",
        "show memory at a physical address",
    ),
];

/// A whole command about memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLine {
    /// The command as it was typed, for hints.
    pub command: String,
    /// What it asks for.
    pub ask: Ask,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// dump-guest-memory.
    Dump {
        /// At virtual addresses.
        paging: bool,
        /// In the background.
        detach: bool,
        /// How it is laid out.
        format: Format,
        /// Where it goes.
        file: String,
        /// The first address.
        begin: Option<Expression>,
        /// Bytes.
        length: Option<Expression>,
    },
    /// Write memory into a file.
    Save {
        /// Of physical addresses.
        physical: bool,
        /// The first.
        address: Expression,
        /// Bytes.
        size: Expression,
        /// Where it goes.
        file: String,
    },
    /// Show memory.
    Show {
        /// Of physical addresses.
        physical: bool,
        /// How.
        wish: Wish,
        /// The first.
        address: Expression,
    },
    /// Show a value.
    Print {
        /// How.
        wish: Wish,
        /// The value.
        value: Expression,
    },
    /// Choose a processor.
    Cpu(Expression),
    /// What is behind a virtual address.
    ToPhysical(Expression),
    /// Where in this process a physical address is.
    ToHost(Expression),
}

impl MemoryLine {
    /// Reads what stands behind the command `typed`, whose name is `name` in errors.
    ///
    /// # Errors
    /// The text to answer with when it makes no sense.
    pub fn read(verb: Verb, name: &str, typed: &str, rest: &str) -> Result<Self, String> {
        let mut words = Rest { name, typed, rest };
        let ask = match verb {
            Verb::Dump => words.dump()?,
            Verb::Save | Verb::SavePhysical => Ask::Save {
                physical: verb == Verb::SavePhysical,
                address: words.expression()?,
                size: words.expression()?,
                file: words.string("string")?,
            },
            Verb::Show | Verb::ShowPhysical => Ask::Show {
                physical: verb == Verb::ShowPhysical,
                wish: words.wish()?,
                address: words.expression()?,
            },
            Verb::Print => Ask::Print {
                wish: words.wish()?,
                value: words.expression()?,
            },
            Verb::Cpu => Ask::Cpu(words.expression()?),
            Verb::ToPhysical => Ask::ToPhysical(words.expression()?),
            Verb::ToHost => Ask::ToHost(words.expression()?),
        };
        words.end()?;
        Ok(MemoryLine {
            command: typed.to_owned(),
            ask,
        })
    }
}

/// With the hint that QEMU gives behind what went wrong in a line.
pub fn with_help(text: &str, command: &str) -> String {
    format!("{text}\nTry \"help {command}\" for more information\n")
}

/// What is left of a line. Expressions have blanks in them, so it is no list of words.
struct Rest<'a> {
    name: &'a str,
    typed: &'a str,
    rest: &'a str,
}

impl Rest<'_> {
    fn wrong(&self, text: &str) -> String {
        with_help(text, self.typed)
    }

    fn expression(&mut self) -> Result<Expression, String> {
        let (expression, rest) = Expression::read(self.rest).map_err(|text| self.wrong(&text))?;
        self.rest = rest;
        Ok(expression)
    }

    fn optional(&mut self) -> Result<Option<Expression>, String> {
        match self.rest.trim_start().is_empty() {
            true => Ok(None),
            false => self.expression().map(Some),
        }
    }

    /// The next word, which is a `what`; in double quotes it may have blanks.
    fn string(&mut self, what: &str) -> Result<String, String> {
        let rest = self.rest.trim_start();
        let mut word = String::new();
        let mut chars = rest.char_indices().peekable();
        let quoted = chars.next_if(|(_, c)| *c == '"').is_some();
        let mut end = None;
        while let Some((at, c)) = chars.next() {
            match c {
                '"' if quoted => {
                    end = at.checked_add(1);
                    break;
                }
                '\\' if quoted => word.extend(chars.next().map(|(_, c)| c)),
                c if c.is_whitespace() && !quoted => {
                    end = Some(at);
                    break;
                }
                c => word.push(c),
            }
        }
        if word.is_empty() && !quoted {
            return Err(self.wrong(&format!("{}: {what} expected", self.name)));
        }
        self.rest = end.and_then(|end| rest.get(end..)).unwrap_or_default();
        Ok(word)
    }

    fn wish(&mut self) -> Result<Wish, String> {
        let mut wish = Wish {
            count: 1,
            letter: None,
            size: None,
        };
        let Some(text) = self.rest.trim_start().strip_prefix('/') else {
            return Ok(wish);
        };
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (count, letters) = text.split_at(digits);
        if !count.is_empty() {
            wish.count = count.parse().unwrap_or(u64::MAX);
        }
        let end = letters.find(char::is_whitespace).unwrap_or(letters.len());
        let (letters, rest) = letters.split_at(end);
        for letter in letters.chars() {
            match letter {
                'o' | 'd' | 'u' | 'x' | 'i' | 'c' => wish.letter = Some(letter),
                'b' => wish.size = Some(1),
                'h' => wish.size = Some(2),
                'w' => wish.size = Some(4),
                'g' | 'L' => wish.size = Some(8),
                bad => return Err(self.wrong(&format!("invalid char in format: '{bad}'"))),
            }
        }
        self.rest = rest;
        Ok(wish)
    }

    fn dump(&mut self) -> Result<Ask, String> {
        let mut switches = String::new();
        while let Some(rest) = self.rest.trim_start().strip_prefix('-') {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (letters, rest) = rest.split_at(end);
            if let Some(bad) = letters.chars().find(|c| !"pdwzlsR".contains(*c)) {
                return Err(self.wrong(&format!("{}: unsupported option -{bad}", self.name)));
            }
            switches.push_str(letters);
            self.rest = rest;
        }
        let has = |letter| switches.contains(letter);
        let raw = has('R');
        let formats = [
            ('z', Format::KdumpZlib, Format::KdumpRawZlib),
            ('l', Format::KdumpLzo, Format::KdumpRawLzo),
            ('s', Format::KdumpSnappy, Format::KdumpRawSnappy),
            ('w', Format::WinDmp, Format::WinDmp),
        ];
        let mut chosen = formats.into_iter().filter(|(letter, ..)| has(*letter));
        let format = match (chosen.next(), chosen.next()) {
            (None, _) => Format::Elf,
            (Some((_, _, format)), None) if raw => format,
            (Some((_, format, _)), None) => format,
            (Some(_), Some(_)) => {
                return Err("Error: only one of '-z|-l|-s|-w' can be set\n".into());
            }
        };
        Ok(Ask::Dump {
            paging: has('p'),
            detach: has('d'),
            format,
            file: self.string("filename")?,
            begin: self.optional()?,
            length: self.optional()?,
        })
    }

    fn end(&self) -> Result<(), String> {
        match self.rest.trim().is_empty() {
            true => Ok(()),
            false => {
                let text = format!("{}: extraneous characters at the end of line", self.name);
                Err(self.wrong(&text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Line, parse};
    use super::*;

    fn read(line: &str) -> Result<Ask, String> {
        match parse(line)? {
            Line::Memory(line) => Ok(line.ask),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lines_are_read() {
        let wish = |count, letter, size| Wish {
            count,
            letter,
            size,
        };
        let number = Expression::number;
        for (line, physical, wished, address) in [
            ("x 0", false, wish(1, None, None), 0),
            ("x/4xg 16", false, wish(4, Some('x'), Some(8)), 16),
            ("x /2c 16", false, wish(2, Some('c'), None), 16),
            (
                "xp/99999999999999999999hd 1",
                true,
                wish(u64::MAX, Some('d'), Some(2)),
                1,
            ),
            ("xp/ 1", true, wish(1, None, None), 1),
        ] {
            let expected = Ask::Show {
                physical,
                wish: wished,
                address: number(address),
            };
            assert_eq!(read(line), Ok(expected), "{line}");
        }
        let value = |wish, value| {
            Ok(Ask::Print {
                wish,
                value: number(value),
            })
        };
        assert_eq!(read("p/x 5"), value(wish(1, Some('x'), None), 5));
        assert_eq!(read("print 5"), value(wish(1, None, None), 5));
        let save = |physical, file: &str| Ask::Save {
            physical,
            address: number(0),
            size: number(16),
            file: file.into(),
        };
        assert_eq!(read("memsave 0 16 \"/a b\""), Ok(save(false, "/a b")));
        assert_eq!(read("pmemsave 0 16 file"), Ok(save(true, "file")));
        assert_eq!(read("cpu 3"), Ok(Ask::Cpu(number(3))));
        let dump = |paging, detach, format, begin: Option<i64>| Ask::Dump {
            paging,
            detach,
            format,
            file: "f".into(),
            begin: begin.map(number),
            length: begin.map(number),
        };
        for (line, expected) in [
            ("f", dump(false, false, Format::Elf, None)),
            ("-p -d f", dump(true, true, Format::Elf, None)),
            ("-zR f", dump(false, false, Format::KdumpRawZlib, None)),
            ("-s f", dump(false, false, Format::KdumpSnappy, None)),
            ("-R -s f", dump(false, false, Format::KdumpRawSnappy, None)),
            ("-R f 7 7", dump(false, false, Format::Elf, Some(7))),
            ("-w f", dump(false, false, Format::WinDmp, None)),
        ] {
            let line = format!("dump-guest-memory {line}");
            assert_eq!(read(&line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (line, typed, text) in [
            ("x", "x", "unexpected end of expression"),
            ("x/3q 0", "x", "invalid char in format: 'q'"),
            ("x/-3x 0", "x", "invalid char in format: '-'"),
            (
                "x/3x 0 0",
                "x",
                "x: extraneous characters at the end of line",
            ),
            (
                "p 1 2",
                "p",
                "print|p: extraneous characters at the end of line",
            ),
            ("print abc", "print", "invalid char 'a' in expression"),
            ("memsave 0 16", "memsave", "memsave: string expected"),
            (
                "memsave 0 16 /x",
                "memsave",
                "invalid char 'x' in expression",
            ),
            (
                "dump-guest-memory",
                "dump-guest-memory",
                "dump-guest-memory: filename expected",
            ),
            (
                "dump-guest-memory -x f",
                "dump-guest-memory",
                "dump-guest-memory: unsupported option -x",
            ),
        ] {
            assert_eq!(read(line), Err(with_help(text, typed)), "{line}");
        }
        let two = "Error: only one of '-z|-l|-s|-w' can be set\n";
        assert_eq!(read("dump-guest-memory -z -l f"), Err(two.into()));
        assert_eq!(parse("stop/x").unwrap_err(), "unknown command: 'stop/x'\n");
    }
}
