//! The back end `bridge`.

use api_spec::{NetdevBridgeOptions, QmpError, QmpResult};

use super::{NetOpenCx, Opened};

/// Makes it.
///
/// # Errors
/// Always: this program is built without it.
pub fn open(_id: &str, _options: &NetdevBridgeOptions, _cx: &NetOpenCx) -> QmpResult<Opened> {
    Err(QmpError::generic(
        "network backend 'bridge' is not compiled into this binary",
    ))
}
