//! Names with wildcards.

/// Whether a pattern fits a name: `*` stands for any characters, `?` for one.
pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Behind the last star, and where in the name it was tried from.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                star = Some((p, n));
            }
            Some(&want) if want == b'?' || want == c => {
                p += 1;
                n += 1;
            }
            // The star takes one more.
            _ => match star {
                Some((behind, from)) => {
                    p = behind;
                    n = from + 1;
                    star = Some((behind, n));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

/// Whether a name has wildcards that make it a pattern, and no error when nothing fits.
pub fn is_pattern(name: &str) -> bool {
    name.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_marks() {
        for (pattern, name, fit) in [
            ("", "", true),
            ("*", "", true),
            ("*", "abc", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b", "abc", false),
            ("a?c", "abc", true),
            ("a?", "abc", false),
            ("*b*", "abc", true),
            ("**c", "abc", true),
            ("a*bc*bd", "abcbcbd", true),
            ("abc", "abcd", false),
            ("abcd", "abc", false),
            ("", "a", false),
            ("?", "", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }
}
