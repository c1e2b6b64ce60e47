//! Numbers as people type them: sums of products with registers, on 64 bits. `&`, `|` and `^` bind
//! closer than `+`, and `*` closer than those.

/// How deep brackets and signs may be nested.
const DEPTH: u32 = 64;

/// An expression, each operator behind what it works on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expression(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Number(i64),
    Register(String),
    Negate,
    Invert,
    Binary(u8),
}

impl Expression {
    /// A plain number.
    pub fn number(value: i64) -> Self {
        Expression(vec![Step::Number(value)])
    }

    /// Reads one from the beginning of a text; what stands behind it is given back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<(Self, &str), String> {
        let mut reader = Reader {
            rest: text.trim_start(),
            steps: Vec::new(),
            left: DEPTH,
        };
        reader.level(&LEVELS)?;
        Ok((Expression(reader.steps), reader.rest))
    }

    /// Whether it names registers.
    pub fn has_registers(&self) -> bool {
        let register = |step: &Step| matches!(step, Step::Register(_));
        self.0.iter().any(register)
    }

    /// Its value with these registers.
    ///
    /// # Errors
    /// When a register is not known, or something is divided by zero.
    pub fn value(&self, register: &dyn Fn(&str) -> Option<u64>) -> Result<i64, String> {
        let mut stack = Vec::new();
        for step in &self.0 {
            let mut pop = || stack.pop().unwrap_or(0i64);
            let value = match step {
                Step::Number(number) => *number,
                Step::Register(name) => register(name).ok_or("unknown register")?.cast_signed(),
                Step::Negate => pop().wrapping_neg(),
                Step::Invert => !pop(),
                Step::Binary(operator) => {
                    let (right, left) = (pop(), pop());
                    binary(*operator, left, right)?
                }
            };
            stack.push(value);
        }
        Ok(stack.pop().unwrap_or(0))
    }
}

/// Operators, those that bind least first.
const LEVELS: [&[u8]; 3] = [b"+-", b"&|^", b"*/%"];

fn binary(operator: u8, left: i64, right: i64) -> Result<i64, String> {
    Ok(match operator {
        b'+' => left.wrapping_add(right),
        b'-' => left.wrapping_sub(right),
        b'&' => left & right,
        b'|' => left | right,
        b'^' => left ^ right,
        b'*' => left.wrapping_mul(right),
        _ if right == 0 => return Err("division by zero".into()),
        b'/' => left.wrapping_div(right),
        _ => left.wrapping_rem(right),
    })
}

struct Reader<'a> {
    rest: &'a str,
    steps: Vec<Step>,
    left: u32,
}

impl<'a> Reader<'a> {
    fn first(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Goes on behind so many bytes, and blanks behind them.
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default().trim_start();
    }

    fn level(&mut self, levels: &[&[u8]]) -> Result<(), String> {
        let Some((operators, closer)) = levels.split_first() else {
            return self.operand();
        };
        self.level(closer)?;
        while let Some(operator) = self
            .rest
            .bytes()
            .next()
            .filter(|byte| operators.contains(byte))
        {
            self.skip(1);
            self.level(closer)?;
            self.steps.push(Step::Binary(operator));
        }
        Ok(())
    }

    fn operand(&mut self) -> Result<(), String> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or("expression nested too deeply")?;
        let step = match self.first() {
            None => return Err("unexpected end of expression".into()),
            Some(sign @ ('+' | '-' | '~')) => {
                self.skip(1);
                self.operand()?;
                match sign {
                    '-' => Some(Step::Negate),
                    '~' => Some(Step::Invert),
                    _ => None,
                }
            }
            Some('(') => {
                self.skip(1);
                self.level(&LEVELS)?;
                if self.first() != Some(')') {
                    return Err("')' expected".into());
                }
                self.skip(1);
                None
            }
            Some('\'') => Some(self.character()?),
            Some('$') => Some(self.register()),
            Some(_) => Some(self.number()?),
        };
        self.steps.extend(step);
        self.left = self.left.saturating_add(1);
        Ok(())
    }

    fn character(&mut self) -> Result<Step, String> {
        let mut chars = self.rest.chars().skip(1);
        let character = chars.next().ok_or("character constant expected")?;
        if chars.next() != Some('\'') {
            return Err("missing terminating ' character".into());
        }
        self.skip(character.len_utf8().saturating_add(2));
        Ok(Step::Number(i64::from(u32::from(character))))
    }

    fn register(&mut self) -> Step {
        let name = self.rest.get(1..).unwrap_or_default();
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == ':';
        let len = name.find(|c| !part(c)).unwrap_or(name.len());
        let name = name.get(..len).unwrap_or_default().to_owned();
        self.skip(len.saturating_add(1));
        Step::Register(name)
    }

    /// As in C: hexadecimal with 0x, octal with 0.
    fn number(&mut self) -> Result<Step, String> {
        let hex = self
            .rest
            .get(..2)
            .is_some_and(|head| head.eq_ignore_ascii_case("0x"));
        let after = self.rest.get(2..).and_then(|rest| rest.chars().next());
        let hex = hex && after.is_some_and(|c| c.is_ascii_hexdigit());
        let (prefix, radix) = match (hex, self.first()) {
            (true, _) => (2, 16),
            (false, Some('0')) => (0, 8),
            _ => (0, 10),
        };
        let digits = self.rest.get(prefix..).unwrap_or_default();
        let len = digits
            .find(|c: char| !c.is_digit(radix))
            .unwrap_or(digits.len());
        let digits = digits.get(..len).unwrap_or_default();
        if digits.is_empty() {
            let bad = self.first().unwrap_or(' ');
            return Err(format!("invalid char '{bad}' in expression"));
        }
        let number = u64::from_str_radix(digits, radix).map_err(|_| "number too large")?;
        self.skip(len.saturating_add(prefix));
        Ok(Step::Number(number.cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Result<(i64, String), String> {
        let (expression, rest) = Expression::read(text)?;
        let register = |name: &str| (name == "rip").then_some(0xfff0);
        Ok((expression.value(&register)?, rest.to_owned()))
    }

    #[test]
    fn values_are_those_of_the_reference() {
        for (text, wanted) in [
            ("1", 1),
            ("5*3-1", 14),
            ("7/2", 3),
            ("7%4", 3),
            ("-7/2", -3),
            ("0xf0&0x3c", 0x30),
            ("0xf0|0x0f", 0xff),
            ("0xf0^0xff", 0xf),
            ("~0", -1),
            ("(1+2)*3", 9),
            ("1+2*3", 7),
            ("1-2-3", -4),
            ("1+6&3", 3),
            ("010", 8),
            ("+5", 5),
            ("--5", 5),
            (" 5 + 3 ", 8),
            ("1 -1", 0),
            ("'a'", 97),
            ("0xffffffffffffffff", -1),
            ("$rip + 0x10", 0x1_0000),
            ("0X1f", 31),
        ] {
            assert_eq!(value(text), Ok((wanted, String::new())), "{text}");
        }
        assert_eq!(value("0x"), Ok((0, "x".into())));
        assert_eq!(value("08"), Ok((0, "8".into())));
        assert_eq!(value("1 2"), Ok((1, "2".into())));
        assert_eq!(value("1k"), Ok((1, "k".into())));
        assert_eq!(value("1<<4"), Ok((1, "<<4".into())));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, wanted) in [
            ("", "unexpected end of expression"),
            ("1+", "unexpected end of expression"),
            ("abc", "invalid char 'a' in expression"),
            ("!0", "invalid char '!' in expression"),
            ("ä", "invalid char 'ä' in expression"),
            ("(1", "')' expected"),
            ("'ab'", "missing terminating ' character"),
            ("''", "missing terminating ' character"),
            ("'", "character constant expected"),
            ("99999999999999999999", "number too large"),
            ("0x1ffffffffffffffff", "number too large"),
            ("$foo", "unknown register"),
            ("$", "unknown register"),
            ("7/0", "division by zero"),
            ("7%0", "division by zero"),
        ] {
            assert_eq!(value(text), Err(wanted.into()), "{text}");
        }
        let min = "0x8000000000000000/-1";
        assert_eq!(value(min), Ok((i64::MIN, String::new())));
        for deep in ["(", "-", "~"] {
            let text = deep.repeat(100_000);
            assert_eq!(value(&text), Err("expression nested too deeply".into()));
        }
        let long = format!("1{}", "+1".repeat(100_000));
        assert_eq!(value(&long), Ok((100_001, String::new())));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[-+*/%&|^~()'$0-9a-fx .é]{0,40}") {
            let _ = value(&text);
        }
    }
}
