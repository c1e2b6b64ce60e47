//! Events on their way out: their text, and the rate limits of those a guest can cause.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use api_spec::Event;

/// The line of an event.
pub fn event_text(event: &Event, at: SystemTime) -> String {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut text = format!(
        "{{\"timestamp\": {{\"seconds\": {}, \"microseconds\": {}}}, \"event\": \"{}\"",
        since.as_secs(),
        since.subsec_micros(),
        event.name()
    );
    if let Some(data) = event.data_json() {
        text.push_str(", \"data\": ");
        text.push_str(&data);
    }
    text.push('}');
    text
}

/// Lets one event of a key through per interval; the last one of those held back follows.
#[derive(Debug, Default)]
pub struct Limiter {
    held: HashMap<String, Held>,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    interval: Duration,
    last: Option<String>,
}

impl Limiter {
    /// Gives the text back if it may go out now.
    pub fn pass(&mut self, event: &Event, text: String, now: Instant) -> Option<String> {
        let Some(limit) = event.rate_limit() else {
            return Some(text);
        };
        let interval = Duration::from_millis(limit.interval_ms);
        match self.held.get_mut(&limit.key) {
            Some(held) => {
                held.last = Some(text);
                None
            }
            None => {
                self.held.insert(
                    limit.key,
                    Held {
                        until: now + interval,
                        interval,
                        last: None,
                    },
                );
                Some(text)
            }
        }
    }

    /// When [`Limiter::due`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.held.values().map(|h| h.until).min()
    }

    /// The texts whose time has come.
    pub fn due(&mut self, now: Instant) -> Vec<String> {
        let mut out = Vec::new();
        self.held.retain(|_, held| {
            if held.until > now {
                return true;
            }
            // A key that was quiet for an interval is forgotten.
            let Some(text) = held.last.take() else {
                return false;
            };
            held.until = now + held.interval;
            out.push(text);
            true
        });
        out
    }

    /// Everything held back, for the end.
    pub fn flush(&mut self) -> Vec<String> {
        self.held
            .drain()
            .filter_map(|(_, held)| held.last)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(open: bool) -> Event {
        Event::VserportChange {
            id: "a".into(),
            open,
        }
    }

    #[test]
    fn the_first_goes_at_once_and_the_last_later() {
        let mut limiter = Limiter::default();
        let now = Instant::now();
        assert!(limiter.pass(&change(true), "1".into(), now).is_some());
        assert!(limiter.pass(&change(false), "2".into(), now).is_none());
        assert!(limiter.pass(&change(true), "3".into(), now).is_none());
        assert!(limiter.pass(&Event::Stop, "s".into(), now).is_some());
        assert!(limiter.due(now).is_empty());
        let later = now + Duration::from_millis(1000);
        assert_eq!(limiter.deadline(), Some(later));
        assert_eq!(limiter.due(later), ["3"]);
        assert!(
            limiter.pass(&change(true), "4".into(), later).is_none(),
            "again a second"
        );
        let end = later + Duration::from_millis(1000);
        assert_eq!(limiter.due(end), ["4"]);
        assert!(limiter.due(end + Duration::from_millis(1000)).is_empty());
        assert_eq!(limiter.deadline(), None, "a quiet key is forgotten");
    }
}
