//! The fault-injecting node's options.

use api_spec::{
    BlkdebugEvent, BlkdebugInjectErrorOptions, BlkdebugSetStateOptions, BlockdevOptionsBlkdebug,
    QmpError, QmpResult,
};
use block::{BlkdebugSpec, DriverSpec, Event, InjectError, IoType, SetState};

use super::convert::child;

/// # Errors
/// For numbers out of range.
pub(super) fn blkdebug(options: BlockdevOptionsBlkdebug) -> QmpResult<DriverSpec> {
    let BlockdevOptionsBlkdebug {
        image,
        config,
        inject_error,
        set_state,
    } = options;
    let injects = inject_error.unwrap_or_default();
    let sets = set_state.unwrap_or_default();
    Ok(DriverSpec::Blkdebug {
        image: Box::new(child(image)?),
        spec: BlkdebugSpec {
            inject: injects.iter().map(inject).collect::<QmpResult<_>>()?,
            set_state: sets.iter().map(set).collect::<QmpResult<_>>()?,
            config,
        },
    })
}

fn event(event: BlkdebugEvent) -> QmpResult<Event> {
    let name = event.name();
    let unknown = || QmpError::generic(format!("Event '{name}' is not supported"));
    Event::by_name(name).ok_or_else(unknown)
}

fn number(name: &str, value: Option<i64>) -> QmpResult<u64> {
    let range = || QmpError::generic(format!("Parameter '{name}' is out of range"));
    u64::try_from(value.unwrap_or(0)).map_err(|_| range())
}

fn inject(options: &BlkdebugInjectErrorOptions) -> QmpResult<InjectError> {
    let default = InjectError::new(event(options.event)?);
    let range = || QmpError::generic("Parameter 'errno' is out of range");
    let errno = options.errno.map(i32::try_from).transpose();
    Ok(InjectError {
        state: number("state", options.state)?,
        io_type: options
            .iotype
            .and_then(|io_type| IoType::by_name(io_type.name())),
        errno: errno
            .ok()
            .map(|errno| errno.unwrap_or(default.errno))
            .filter(|errno| *errno >= 0)
            .ok_or_else(range)?,
        // All ones is any.
        sector: match options.sector {
            None | Some(-1) => None,
            sector => Some(number("sector", sector)?),
        },
        once: options.once.unwrap_or(false),
        immediately: options.immediately.unwrap_or(false),
        ..default
    })
}

fn set(options: &BlkdebugSetStateOptions) -> QmpResult<SetState> {
    Ok(SetState {
        event: event(options.event)?,
        state: number("state", options.state)?,
        new_state: number("new_state", Some(options.new_state))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_same_names_on_both_sides() {
        for known in Event::ALL {
            let name = known.name();
            let there = api_spec::decode_value(name.into(), api_spec::Mode::Strict).unwrap();
            assert_eq!(event(there).unwrap(), *known);
        }
    }
}
