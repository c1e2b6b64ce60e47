//! The back end `dgram`.

use api_spec::{NetdevDgramOptions, QmpError, QmpResult};

use super::{NetOpenCx, Opened};

/// Makes it.
///
/// # Errors
/// Always: this program is built without it.
pub fn open(_id: &str, _options: &NetdevDgramOptions, _cx: &NetOpenCx) -> QmpResult<Opened> {
    Err(QmpError::generic(
        "network backend 'dgram' is not compiled into this binary",
    ))
}
