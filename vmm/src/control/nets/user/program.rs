//! Where the child's program is.

use std::path::{Path, PathBuf};

use api_spec::{QmpError, QmpResult};

/// Its name.
const NAME: &str = "qvmd-usernet";
/// Says where it is, instead of everything else.
const VARIABLE: &str = "QVMD_USERNET";
/// Where packages put it, if it is not beside our own.
const DIRECTORIES: [&str; 2] = ["/usr/libexec/qvmd", "/usr/lib/qvmd"];

/// Finds it.
///
/// # Errors
/// When it is not installed.
pub fn find() -> QmpResult<PathBuf> {
    let own = std::env::current_exe().ok();
    let chosen = std::env::var_os(VARIABLE).map(PathBuf::from);
    let places = places(chosen, own.as_deref());
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| {
        let places: Vec<_> = places
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let places = places.join(", ");
        QmpError::generic(format!(
            "Cannot find the program '{NAME}', which runs the network backend 'user' \
             (looked for {places})"
        ))
    })
}

fn places(chosen: Option<PathBuf>, own: Option<&Path>) -> Vec<PathBuf> {
    if let Some(chosen) = chosen {
        return vec![chosen];
    }
    let beside = own.and_then(Path::parent).map(Path::to_owned);
    let others = DIRECTORIES.iter().map(PathBuf::from);
    beside
        .into_iter()
        .chain(others)
        .map(|place| place.join(NAME))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_folder_comes_first_unless_somebody_says_otherwise() {
        let own = Path::new("/opt/qvmd/bin/qvmd");
        let all = places(None, Some(own));
        assert_eq!(all[0], Path::new("/opt/qvmd/bin/qvmd-usernet"));
        assert_eq!(all[1], Path::new("/usr/libexec/qvmd/qvmd-usernet"));
        let chosen = places(Some("/x".into()), Some(own));
        assert_eq!(chosen, [Path::new("/x")]);
    }
}
