//! The back end `tap`.

use api_spec::{NetdevTapOptions, QmpError, QmpResult};

use super::{NetOpenCx, Opened};

/// Makes it.
///
/// # Errors
/// Always: this program is built without it.
pub fn open(_id: &str, _options: &NetdevTapOptions, _cx: &NetOpenCx) -> QmpResult<Opened> {
    Err(QmpError::generic(
        "network backend 'tap' is not compiled into this binary",
    ))
}
