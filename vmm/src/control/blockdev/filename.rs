//! From the name of a file to the node on it, as change and drives have it.

use std::os::unix::fs::FileTypeExt;

use block::{
    Aio, BlockError, ChildSpec, DriverSpec, FileOpener, FileSpec, FormatKind, FormatSpec, Locking,
    NodeSpec, NullSpec, RawWindow,
};

use super::Blockdevs;

/// The image in a file: of this format, or of that which its first bytes say.
///
/// # Errors
/// For protocols and formats that are not here.
pub(super) fn image(
    name: &str,
    format: Option<&str>,
    opener: &mut dyn FileOpener,
) -> Result<NodeSpec, BlockError> {
    let file = Box::new(ChildSpec::Inline(file(name, opener)?));
    let driver = match format {
        None => DriverSpec::Probe { file },
        Some("raw") => DriverSpec::Raw {
            file,
            window: RawWindow::default(),
            probed: false,
        },
        Some(format) => match FormatKind::by_name(format) {
            Some(kind) => DriverSpec::Format(FormatSpec::new(kind, *file)),
            None => return Err(BlockError::UnknownDriver(format.to_owned())),
        },
    };
    Ok(NodeSpec::new(driver))
}

/// The bytes that a name stands for.
pub(super) fn file(name: &str, opener: &mut dyn FileOpener) -> Result<NodeSpec, BlockError> {
    if let Some(json) = name.strip_prefix("json:") {
        return opener.json(json);
    }
    if name == "null-co://" {
        return Ok(NodeSpec::new(DriverSpec::Null(NullSpec::default())));
    }
    let path = path(name)?;
    let file = FileSpec {
        filename: path.to_owned(),
        aio: Aio::Threads,
        locking: Locking::Auto,
    };
    Ok(NodeSpec::new(match is_device(path) {
        true => DriverSpec::HostDevice(file),
        false => DriverSpec::File(file),
    }))
}

/// A file's path without the protocol in front.
///
/// # Errors
/// For protocols that are not here.
pub(super) fn path(file: &str) -> Result<&str, BlockError> {
    let end = file
        .find([':', '/'])
        .filter(|end| file.as_bytes().get(*end) == Some(&b':'));
    match end.and_then(|end| Some((file.get(..end)?, file.get(end.saturating_add(1)..)?))) {
        None | Some(("", _)) => Ok(file),
        Some(("file" | "host_device", path)) => Ok(path),
        Some((protocol, _)) => Err(BlockError::Unsupported(format!(
            "Unknown protocol '{protocol}'"
        ))),
    }
}

/// Whether it is a block device.
pub(super) fn is_device(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.file_type().is_block_device())
}

impl Blockdevs {
    /// A guest can write into a raw image what makes it look like another format, so that the
    /// next guess is another one.
    pub(super) fn warn_of_guess(&self, node: &str, file: &str) {
        let driver = self.graph.node(node).map(|node| node.spec.driver);
        if matches!(driver, Some(DriverSpec::Raw { probed: true, .. })) {
            log::warn!(
                "Image format was not specified for '{file}' and probing guessed raw; say \
                 format=raw"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opener(path: &str, _flags: i32) -> std::io::Result<std::fs::File> {
        std::fs::File::open(path)
    }

    fn driver(name: &str, format: Option<&str>) -> Result<DriverSpec, String> {
        let spec = image(name, format, &mut opener);
        spec.map(|spec| spec.driver)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_read() {
        for (name, path) in [
            ("a.img", "a.img"),
            ("file:a.img", "a.img"),
            ("/d/a:b.img", "/d/a:b.img"),
            (":x", ":x"),
        ] {
            let Ok(DriverSpec::Raw { file, probed, .. }) = driver(name, Some("raw")) else {
                panic!("{name}");
            };
            assert!(!probed);
            let ChildSpec::Inline(spec) = *file else {
                panic!("{name}");
            };
            let DriverSpec::File(spec) = spec.driver else {
                panic!("{name}");
            };
            assert_eq!(spec.filename, path);
        }
        assert!(matches!(driver("a", None), Ok(DriverSpec::Probe { .. })));
        assert!(matches!(
            driver("a", Some("qcow2")),
            Ok(DriverSpec::Format(_))
        ));
    }

    #[test]
    fn unknown_words_are_refused() {
        for (name, format, message) in [
            ("nbd:a", None, "Unknown protocol 'nbd'"),
            ("a", Some("foo"), "Unknown driver 'foo'"),
            ("a", Some("file"), "Unknown driver 'file'"),
        ] {
            assert_eq!(driver(name, format).unwrap_err(), message);
        }
    }
}
