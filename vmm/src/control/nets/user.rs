//! The back end `user`.

use api_spec::{NetdevUserOptions, QmpError, QmpResult};

use super::{NetOpenCx, Opened};

/// Makes it.
///
/// # Errors
/// Always: this program is built without it.
pub fn open(_id: &str, _options: &NetdevUserOptions, _cx: &NetOpenCx) -> QmpResult<Opened> {
    Err(QmpError::generic(
        "network backend 'user' is not compiled into this binary",
    ))
}
