//! The back end `bridge`: a tap that a privileged helper opens on a bridge.

use api_spec::{NetdevBridgeOptions, QmpResult};

use super::program::{default_bridge, default_helper, run_helper};
use super::tap::Taps;
use super::{NetOpenCx, Opened};

/// Makes it. Blocks until the helper has ended.
///
/// # Errors
/// When the helper fails.
pub fn open(id: &str, options: &NetdevBridgeOptions, cx: &NetOpenCx) -> QmpResult<Opened> {
    let NetdevBridgeOptions { br, helper } = options;
    let helper = helper.as_deref().unwrap_or(default_helper());
    let bridge = br.as_deref().unwrap_or(default_bridge());
    let tap = run_helper(&cx.launcher, helper, Some(bridge))?;
    let description = format!("helper={helper},br={bridge}");
    Ok(Taps::one(tap, description).into_opened(id, "bridge", None, None))
}
