//! The registers in which a clock chip shows date and time, as pure functions (Motorola
//! MC146818A, "Time, calendar and alarm locations").

/// Seconds of a day.
const DAY: i64 = 86_400;

/// How the registers are written (register B, DM and 24/12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// Binary coded decimal, else binary.
    pub bcd: bool,
    /// Hours 0 to 23, else 1 to 12 with bit 7 for the afternoon.
    pub hours24: bool,
}

/// Date and time registers, raw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub second: u8,
    pub minute: u8,
    pub hour: u8,
    /// 1 for Sunday.
    pub weekday: u8,
    pub day: u8,
    pub month: u8,
    /// Of the century.
    pub year: u8,
    pub century: u8,
}

impl Format {
    fn byte(self, number: i64) -> u8 {
        let number = number.rem_euclid(100) as u8;
        if self.bcd {
            ((number / 10) << 4) | (number % 10)
        } else {
            number
        }
    }

    fn number(self, byte: u8) -> i64 {
        if self.bcd {
            i64::from(byte >> 4) * 10 + i64::from(byte & 0xf)
        } else {
            i64::from(byte)
        }
    }

    fn hour_byte(self, hour: i64) -> u8 {
        if self.hours24 {
            return self.byte(hour);
        }
        let afternoon = if hour >= 12 { 0x80 } else { 0 };
        let hour = match hour % 12 {
            0 => 12,
            hour => hour,
        };
        self.byte(hour) | afternoon
    }

    fn hour_number(self, byte: u8) -> i64 {
        if self.hours24 {
            return self.number(byte);
        }
        let afternoon = if byte & 0x80 != 0 { 12 } else { 0 };
        self.number(byte & 0x7f) % 12 + afternoon
    }

    /// The registers at `seconds` since 1970.
    pub fn encode(self, seconds: i64) -> Fields {
        let (days, time) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = date_of(days);
        Fields {
            second: self.byte(time % 60),
            minute: self.byte(time / 60 % 60),
            hour: self.hour_byte(time / 3600),
            // 1970 began on a Thursday.
            weekday: (days.wrapping_add(4).rem_euclid(7) as u8).saturating_add(1),
            day: self.byte(day),
            month: self.byte(month),
            year: self.byte(year),
            century: self.byte(year.div_euclid(100)),
        }
    }

    /// Seconds since 1970 of registers with any bytes in them; what is too large carries over.
    pub fn decode(self, fields: Fields) -> i64 {
        let year = self.number(fields.century) * 100 + self.number(fields.year);
        let days = days_of(year, self.number(fields.month), self.number(fields.day));
        let hours = days * 24 + self.hour_number(fields.hour);
        (hours * 60 + self.number(fields.minute)) * 60 + self.number(fields.second)
    }
}

/// Days from 1970-01-01 to a date in the Gregorian calendar. Numbers of at most three digits, so
/// nothing can overflow.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let months = year * 12 + month - 1;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month < 2 {
        (year - 1, month + 10)
    } else {
        (year, month - 2)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + days_before(month) + day - 1 - DAYS_TO_1970
}

/// Days of a year that begins in March before its month 0 to 11.
const fn days_before(month: i64) -> i64 {
    (153 * month + 2) / 5
}

/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;
/// Days of 400, 100 and 4 years.
const ERA: i64 = 146_097;
const CENTURY: i64 = 36_524;
const FOUR_YEARS: i64 = 1_461;

/// Year, month (from 1) and day (from 1) of a day since 1970.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(DAYS_TO_1970);
    let (era, rest) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    // The last day of an era, and of four years, belongs to the year before it.
    let centuries = (rest / CENTURY).min(3);
    let rest = rest - centuries * CENTURY;
    let fours = rest / FOUR_YEARS;
    let rest = rest - fours * FOUR_YEARS;
    let years = (rest / 365).min(3);
    let day = rest - years * 365;
    let month = (day * 5 + 2) / 153;
    let year = era * 400 + centuries * 100 + fours * 4 + years;
    let day = day - days_before(month) + 1;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

/// One of the alarm's three registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    /// "Don't care": the two highest bits are set.
    Any,
    /// This number.
    Only(i64),
}

impl Match {
    fn takes(self, number: i64) -> bool {
        self == Match::Any || self == Match::Only(number)
    }
}

/// The alarm registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alarm {
    hour: Match,
    minute: Match,
    second: Match,
}

impl Alarm {
    /// From the raw registers.
    pub fn new(format: Format, hour: u8, minute: u8, second: u8) -> Self {
        let field = |byte: u8, number: i64| match byte {
            0xc0.. => Match::Any,
            _ => Match::Only(number),
        };
        Alarm {
            hour: field(hour, format.hour_number(hour)),
            minute: field(minute, format.number(minute)),
            second: field(second, format.number(second)),
        }
    }

    /// The first second behind `after` at which it rings; `None` when it never does.
    pub fn next(self, after: i64) -> Option<i64> {
        let mut at = after.checked_add(1)?;
        let end = at.checked_add(DAY)?;
        while at < end {
            let time = at.rem_euclid(DAY);
            let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
            at = if !self.hour.takes(hour) {
                at.checked_add(3600 - time % 3600)?
            } else if !self.minute.takes(minute) {
                at.checked_add(60 - second)?
            } else if !self.second.takes(second) {
                at.checked_add(1)?
            } else {
                return Some(at);
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINARY: Format = Format {
        bcd: false,
        hours24: true,
    };
    const BCD: Format = Format {
        bcd: true,
        hours24: true,
    };

    #[test]
    fn known_dates() {
        for (seconds, date, weekday) in [
            (0, [19, 70, 1, 1, 0, 0, 0], 5),
            (951_782_399, [20, 0, 2, 28, 23, 59, 59], 2),
            (951_782_400, [20, 0, 2, 29, 0, 0, 0], 3),
            (1_709_251_200, [20, 24, 3, 1, 0, 0, 0], 6),
            (1_764_097_386, [20, 25, 11, 25, 19, 3, 6], 3),
            (4_107_542_400, [21, 0, 3, 1, 0, 0, 0], 2),
            (-1, [19, 69, 12, 31, 23, 59, 59], 4),
            (-62_167_219_200, [0, 0, 1, 1, 0, 0, 0], 7),
        ] {
            let fields = BINARY.encode(seconds);
            let shown = [
                fields.century,
                fields.year,
                fields.month,
                fields.day,
                fields.hour,
                fields.minute,
                fields.second,
            ];
            assert_eq!(shown, date, "{seconds}");
            assert_eq!(fields.weekday, weekday, "{seconds}");
        }
    }

    #[test]
    fn every_format_reads_back_what_it_wrote() {
        // A bit more than a day apart, over more than 400 years; each hour comes up.
        for step in 0..150_000i64 {
            let seconds = -3_000_000_000 + step * 90_061;
            for bcd in [false, true] {
                for hours24 in [false, true] {
                    let format = Format { bcd, hours24 };
                    assert_eq!(format.decode(format.encode(seconds)), seconds);
                }
            }
        }
    }

    #[test]
    fn hours_of_a_12_hour_clock() {
        let format = Format {
            bcd: true,
            hours24: false,
        };
        for (hour, byte) in [
            (0, 0x12),
            (1, 1),
            (11, 0x11),
            (12, 0x92),
            (13, 0x81),
            (23, 0x91),
        ] {
            assert_eq!(format.hour_byte(hour), byte);
            assert_eq!(format.hour_number(byte), hour);
        }
    }

    #[test]
    fn any_bytes_are_a_date() {
        for byte in 0..=255u8 {
            let fields = Fields {
                second: byte,
                minute: byte,
                hour: byte,
                weekday: byte,
                day: byte,
                month: byte,
                year: byte,
                century: byte,
            };
            for format in [BINARY, BCD] {
                format.encode(format.decode(fields));
            }
        }
        let overflowing = Fields {
            day: 0x31,
            month: 0x02,
            year: 0x25,
            century: 0x20,
            ..Fields::default()
        };
        assert_eq!(BCD.encode(BCD.decode(overflowing)).month, 3);
        for seconds in [i64::MIN, i64::MAX] {
            BCD.encode(seconds);
        }
    }

    #[test]
    fn alarms_ring_at_their_next_second() {
        const HOUR: i64 = 3600;
        for (alarm, after, expected) in [
            ([0x10, 0x30, 0x00], 0, Some(10 * HOUR + 1800)),
            ([0x10, 0x30, 0x00], 10 * HOUR + 1800, Some(34 * HOUR + 1800)),
            ([0x10, 0x30, 0x00], 10 * HOUR + 1799, Some(10 * HOUR + 1800)),
            ([0xff, 0xff, 0xff], 77, Some(78)),
            ([0xff, 0xc0, 0x05], 6, Some(65)),
            ([0xff, 0x00, 0x00], 0, Some(HOUR)),
            ([0x24, 0x00, 0x00], 0, None),
            ([0x00, 0x00, 0x7f], 0, None),
            ([0x00, 0x00, 0x00], i64::MAX, None),
            // The end of time, which only saved state has.
            ([0x24, 0x00, 0x00], i64::MAX - DAY - 1, None),
            ([0xff, 0x7f, 0x00], i64::MAX - DAY - 1, None),
            ([0xff, 0xff, 0x7f], i64::MAX - DAY - 1, None),
        ] {
            let [hour, minute, second] = alarm;
            assert_eq!(
                Alarm::new(BCD, hour, minute, second).next(after),
                expected,
                "{alarm:x?} {after}"
            );
        }
    }
}
