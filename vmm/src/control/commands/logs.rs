//! Commands about logs, trace points and what guests do wrong.

use std::fmt::Write;

use api_spec::reply::Empty;
use api_spec::{
    CommandContext, GuestErrorInfo, GuestErrorKind, LogsCommands, QmpResult,
    TraceEventGetStateArgs, TraceEventInfo, TraceEventSetStateArgs, TraceEventState,
};
use devices::guest_errors::{self, Kind};
use trace::TracePoint;

use super::{DONE, refused};
use crate::control::Control;
use crate::control::hmp::{LogLine, logs};
use crate::logging::{self, points};

impl LogsCommands for Control {
    fn trace_event_get_state(
        &mut self,
        _cx: &mut CommandContext,
        args: TraceEventGetStateArgs,
    ) -> QmpResult<Vec<TraceEventInfo>> {
        let found = points::named(&args.name).map_err(refused)?;
        Ok(found.into_iter().map(info).collect())
    }

    fn trace_event_set_state(
        &mut self,
        _cx: &mut CommandContext,
        args: TraceEventSetStateArgs,
    ) -> QmpResult<Empty> {
        switch(&args.name, args.enable).map_err(refused)?;
        DONE
    }

    fn x_query_guest_errors(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<GuestErrorInfo>> {
        let shown = |count: guest_errors::Count| GuestErrorInfo {
            device: count.device,
            kind: match count.kind {
                Kind::NeedsReset => GuestErrorKind::NeedsReset,
                Kind::BadRequest => GuestErrorKind::BadRequest,
                Kind::BadRegister => GuestErrorKind::BadRegister,
            },
            count: i64::try_from(count.count).unwrap_or(i64::MAX),
            last: count.last,
        };
        Ok(guest_errors::list().into_iter().map(shown).collect())
    }
}

fn info(point: &TracePoint) -> TraceEventInfo {
    TraceEventInfo {
        name: point.name().to_owned(),
        state: match point.is_on() {
            true => TraceEventState::Enabled,
            false => TraceEventState::Disabled,
        },
    }
}

fn switch(name: &str, on: bool) -> Result<(), String> {
    for point in points::named(name)? {
        point.set(on);
    }
    Ok(())
}

/// Does what a line says; returns the answer.
pub(super) fn run(line: LogLine) -> String {
    let done = match line {
        LogLine::Help => return logs::help(),
        LogLine::Nothing => {
            logging::clear_items();
            Ok(())
        }
        LogLine::Items(items) => {
            logging::clear_items();
            logging::add_items(&items);
            Ok(())
        }
        LogLine::File(name) => logging::open_file(&name),
        LogLine::TraceEvent { name, on } => switch(&name, on),
    };
    done.map_or_else(|text| format!("{text}\n"), |()| String::new())
}

/// The text of `info trace-events`.
pub(super) fn trace_events(words: &[String]) -> String {
    let name = words.first().map_or("*", String::as_str);
    match points::named(name) {
        Ok(found) => found.into_iter().fold(String::new(), |mut text, point| {
            let _ = writeln!(text, "{} : state {}", point.name(), u8::from(point.is_on()));
            text
        }),
        Err(text) => format!("{text}\n"),
    }
}

/// The text of `info guest-errors`.
pub(super) fn guest_errors() -> String {
    guest_errors::list()
        .into_iter()
        .fold(String::new(), |mut text, count| {
            let (device, kind) = (&count.device, count.kind.name());
            let _ = writeln!(text, "{device}: {kind} {} ({})", count.count, count.last);
            text
        })
}
