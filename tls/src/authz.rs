//! Who may come in: lists of distinguished names, by the ids of the objects that hold them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::Refusal;

/// What a rule, or the end of a list, says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Out.
    #[default]
    Deny,
    /// In.
    Allow,
}

/// How a rule compares names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Equal.
    #[default]
    Exact,
    /// `*` stands for any text, `?` for any one character.
    Glob,
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A distinguished name or a pattern.
    pub pattern: String,
    /// How they are compared.
    pub format: Format,
    /// What follows.
    pub policy: Policy,
}

/// The rules of one object. The first that fits decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList {
    /// In their order.
    pub rules: Vec<Rule>,
    /// Where none fits.
    pub otherwise: Policy,
}

impl AllowList {
    /// The list of one name.
    pub fn only(identity: &str) -> Self {
        let rule = Rule {
            pattern: identity.to_owned(),
            format: Format::Exact,
            policy: Policy::Allow,
        };
        AllowList {
            rules: vec![rule],
            otherwise: Policy::Deny,
        }
    }

    /// Whether this name may come in.
    pub fn allows(&self, identity: &str) -> bool {
        let rule = self.rules.iter().find(|rule| match rule.format {
            Format::Exact => rule.pattern == identity,
            Format::Glob => glob(&rule.pattern, identity),
        });
        rule.map_or(self.otherwise, |rule| rule.policy) == Policy::Allow
    }
}

/// Goes back to the last `*` alone, so that it takes no longer than the product of the lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut star = None;
    loop {
        match (pattern.next(), text.clone().next()) {
            (Some('*'), _) => star = Some((pattern.clone(), text.clone())),
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                text.next();
            }
            _ => {
                let Some((after, from)) = &mut star else {
                    return false;
                };
                if from.next().is_none() {
                    return false;
                }
                (pattern, text) = (after.clone(), from.clone());
            }
        }
    }
}

/// All lists that there are now, shared with those who ask. A list may be changed, and made after
/// the socket that names it, as the name is looked up for each peer.
#[derive(Debug, Clone, Default)]
pub struct AllowLists(Arc<RwLock<BTreeMap<String, Arc<AllowList>>>>);

impl AllowLists {
    /// Puts a list in the place of the one with this id.
    pub fn set(&self, id: &str, list: AllowList) {
        let mut lists = self.0.write().unwrap_or_else(PoisonError::into_inner);
        lists.insert(id.to_owned(), Arc::new(list));
    }

    /// Takes a list away: it lets nobody in any more.
    pub fn remove(&self, id: &str) {
        let mut lists = self.0.write().unwrap_or_else(PoisonError::into_inner);
        lists.remove(id);
    }

    /// Lets a name in, or says why not.
    ///
    /// # Errors
    /// When there is no such list, or the name is not on it.
    pub fn admit(&self, id: &str, identity: &str) -> Result<(), Refusal> {
        let lists = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(list) = lists.get(id).cloned() else {
            return Err(Refusal(format!("Cannot find QAuthZ object ID {id}")));
        };
        drop(lists);
        match list.allows(identity) {
            true => Ok(()),
            false => Err(Refusal(format!(
                "TLS x509 authz check for {identity} is denied"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(pattern: &str, format: Format, policy: Policy) -> Rule {
        Rule {
            pattern: pattern.into(),
            format,
            policy,
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let list = AllowList {
            rules: vec![
                rule("O=Test,CN=bad", Format::Exact, Policy::Deny),
                rule("O=Test,CN=*", Format::Glob, Policy::Allow),
                rule("CN=*", Format::Exact, Policy::Allow),
            ],
            otherwise: Policy::Deny,
        };
        assert!(!list.allows("O=Test,CN=bad"));
        assert!(list.allows("O=Test,CN=good"));
        assert!(list.allows("CN=*"));
        assert!(!list.allows("CN=x"));
        assert!(!AllowList::default().allows(""));
        let open = AllowList {
            otherwise: Policy::Allow,
            ..AllowList::default()
        };
        assert!(open.allows("anybody"));
    }

    #[test]
    fn lists_may_come_and_go() {
        let lists = AllowLists::default();
        let text = |result: Result<(), Refusal>| result.unwrap_err().0;
        assert_eq!(
            text(lists.admit("a", "x")),
            "Cannot find QAuthZ object ID a"
        );
        lists.set("a", AllowList::only("x"));
        assert_eq!(lists.admit("a", "x"), Ok(()));
        let denied = "TLS x509 authz check for y is denied";
        assert_eq!(text(lists.admit("a", "y")), denied);
        lists.remove("a");
        assert!(lists.admit("a", "x").is_err());
    }

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "aXbY", false),
            ("?", "é", true),
            ("?", "", false),
            ("[a]", "a", false),
            ("a**", "a", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
        // No matter of hours.
        assert!(!glob(&"*a".repeat(200), &"b".repeat(5000)));
    }

    proptest! {
        #[test]
        fn a_glob_fits_what_it_was_made_from(text in "[a-c,=]{0,12}", cut in 0usize..12) {
            let cut = cut.min(text.len());
            let (head, tail) = text.split_at(cut);
            let pattern = format!("{head}*{tail}");
            prop_assert!(glob(&pattern, &text));
            prop_assert!(glob(&text, &text));
        }
    }
}
