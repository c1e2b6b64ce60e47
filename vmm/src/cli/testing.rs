//! Command lines of any kind, for fuzz targets.

use api_spec::keyval::{self, Flags};

use super::{opts, parse};

/// One case: the words, a line each, as a command line; and each for itself, as the values of options are read.
pub fn options(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    drop(parse(&words));
    for word in &words {
        drop(keyval::parse(word, Some("driver"), Flags::Refused));
        drop(keyval::parse(word, None, Flags::Refused));
        drop(keyval::parse_json(word));
        let _ = keyval::parse_size(word);
        let _ = opts::split(word);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fuzzing_begins_with_does_no_harm() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/options");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let data = std::fs::read(entry.unwrap().path()).unwrap();
            // These hold for the whole process, and other tests run in it.
            if !data.windows(6).any(|part| part == b"global") {
                options(&data);
                count += 1;
            }
        }
        assert!(count > 10, "{count} cases");
    }

    proptest! {
        #[test]
        fn no_words_do_harm(text in "(-(m|smp|device|blockdev|netdev|object|chardev|machine|cpu|rtc)\n[-a-z0-9.,=:{}\"\\[\\]]{0,40}\n){0,4}") {
            options(text.as_bytes());
        }
    }
}
