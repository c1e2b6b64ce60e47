//! The back end `vhost-user`.

use api_spec::{NetdevVhostUserOptions, QmpError, QmpResult};

use super::{NetOpenCx, Opened};

/// Makes it.
///
/// # Errors
/// Always: this program is built without it.
pub fn open(_id: &str, _options: &NetdevVhostUserOptions, _cx: &NetOpenCx) -> QmpResult<Opened> {
    Err(QmpError::generic(
        "network backend 'vhost-user' is not compiled into this binary",
    ))
}
