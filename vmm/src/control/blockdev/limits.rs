//! Limits as clients and the command line have them.

use api_spec::{BlockIOThrottle, QmpError, QmpResult, ThrottleGroupProperties, ThrottleLimits};
use block::{Limits, Measure, Rate};

/// What is said of one rate: average, burst, seconds of a burst. What is not said stays.
type Said = (Measure, [Option<i64>; 3]);

fn apply(limits: &mut Limits, said: &[Said], iops_size: Option<i64>) -> QmpResult<()> {
    for (measure, [average, max, max_length]) in said {
        let mut rate = limits.rate(*measure);
        for (place, value) in [(&mut rate.average, average), (&mut rate.max, max)] {
            *place = match value {
                Some(value) => number(*value)?,
                None => *place,
            };
        }
        if let Some(value) = max_length {
            let length = u32::try_from(*value).map_err(|_| {
                let (name, most) = (measure.name(), u32::MAX);
                QmpError::generic(format!(
                    "{name}-max-length value must be in the range [0, {most}]"
                ))
            })?;
            rate.max_length = length.into();
        }
        limits.set(*measure, rate);
    }
    if let Some(size) = iops_size {
        limits.iops_size = number(size)?;
    }
    Ok(())
}

fn number(value: i64) -> QmpResult<u64> {
    u64::try_from(value).map_err(|_| QmpError::generic("Property values cannot be negative"))
}

/// Limits with those members changed that are there. They may not make sense.
///
/// # Errors
/// For numbers that are out of range.
pub(in crate::control) fn changed(mut limits: Limits, said: &ThrottleLimits) -> QmpResult<Limits> {
    let s = said;
    let rates = [
        (
            Measure::IopsTotal,
            [s.iops_total, s.iops_total_max, s.iops_total_max_length],
        ),
        (
            Measure::IopsRead,
            [s.iops_read, s.iops_read_max, s.iops_read_max_length],
        ),
        (
            Measure::IopsWrite,
            [s.iops_write, s.iops_write_max, s.iops_write_max_length],
        ),
        (
            Measure::BpsTotal,
            [s.bps_total, s.bps_total_max, s.bps_total_max_length],
        ),
        (
            Measure::BpsRead,
            [s.bps_read, s.bps_read_max, s.bps_read_max_length],
        ),
        (
            Measure::BpsWrite,
            [s.bps_write, s.bps_write_max, s.bps_write_max_length],
        ),
    ];
    apply(&mut limits, &rates, s.iops_size)?;
    Ok(limits)
}

/// Limits of a throttle-group object.
///
/// # Errors
/// For numbers that are out of range.
pub(in crate::control) fn of_group(group: &ThrottleGroupProperties) -> QmpResult<Limits> {
    let single = ThrottleLimits {
        iops_total: group.x_iops_total,
        iops_total_max: group.x_iops_total_max,
        iops_total_max_length: group.x_iops_total_max_length,
        iops_read: group.x_iops_read,
        iops_read_max: group.x_iops_read_max,
        iops_read_max_length: group.x_iops_read_max_length,
        iops_write: group.x_iops_write,
        iops_write_max: group.x_iops_write_max,
        iops_write_max_length: group.x_iops_write_max_length,
        bps_total: group.x_bps_total,
        bps_total_max: group.x_bps_total_max,
        bps_total_max_length: group.x_bps_total_max_length,
        bps_read: group.x_bps_read,
        bps_read_max: group.x_bps_read_max,
        bps_read_max_length: group.x_bps_read_max_length,
        bps_write: group.x_bps_write,
        bps_write_max: group.x_bps_write_max,
        bps_write_max_length: group.x_bps_write_max_length,
        iops_size: group.x_iops_size,
    };
    let limits = changed(Limits::default(), &single)?;
    match &group.limits {
        Some(said) => changed(limits, said),
        None => Ok(limits),
    }
}

/// Limits of block_set_io_throttle: what is not said is not limited.
///
/// # Errors
/// For numbers that are out of range.
pub(super) fn of_command(args: &BlockIOThrottle) -> QmpResult<Limits> {
    let a = args;
    let rates = [
        (
            Measure::BpsTotal,
            [Some(a.bps), a.bps_max, a.bps_max_length],
        ),
        (
            Measure::BpsRead,
            [Some(a.bps_rd), a.bps_rd_max, a.bps_rd_max_length],
        ),
        (
            Measure::BpsWrite,
            [Some(a.bps_wr), a.bps_wr_max, a.bps_wr_max_length],
        ),
        (
            Measure::IopsTotal,
            [Some(a.iops), a.iops_max, a.iops_max_length],
        ),
        (
            Measure::IopsRead,
            [Some(a.iops_rd), a.iops_rd_max, a.iops_rd_max_length],
        ),
        (
            Measure::IopsWrite,
            [Some(a.iops_wr), a.iops_wr_max, a.iops_wr_max_length],
        ),
    ];
    let numbers = rates.iter().flat_map(|(_, said)| said);
    if numbers.flatten().any(|number| *number < 0) {
        return Err(QmpError::generic(Limits::OUT_OF_RANGE));
    }
    let mut limits = Limits::default();
    apply(&mut limits, &rates, a.iops_size)?;
    Ok(limits)
}

/// The names of all numbers, with their values: `iops-total`, `iops-total-max` and so on.
pub(in crate::control) fn named(limits: &Limits) -> Vec<(String, u64)> {
    let mut named = Vec::new();
    for measure in Measure::ALL {
        let Rate {
            average,
            max,
            max_length,
        } = limits.rate(measure);
        let name = measure.name();
        named.push((name.to_owned(), average));
        named.push((format!("{name}-max"), max));
        named.push((format!("{name}-max-length"), max_length));
    }
    named.push(("iops-size".to_owned(), limits.iops_size));
    named
}

/// Sets the number of that name; false when there is none.
pub(super) fn set_named(limits: &mut Limits, name: &str, value: u64) -> bool {
    if name == "iops-size" {
        limits.iops_size = value;
        return true;
    }
    for measure in Measure::ALL {
        let Some(part) = name.strip_prefix(measure.name()) else {
            continue;
        };
        let mut rate = limits.rate(measure);
        match part {
            "" => rate.average = value,
            "-max" => rate.max = value,
            "-max-length" => rate.max_length = value,
            _ => continue,
        }
        limits.set(measure, rate);
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_numbers_and_back() {
        let mut limits = Limits::default();
        let names = named(&limits);
        assert_eq!(names.len(), 19);
        for ((name, _), value) in names.iter().zip(1..) {
            assert!(set_named(&mut limits, name, value), "{name}");
        }
        let values: Vec<u64> = named(&limits).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, (1..=19).collect::<Vec<u64>>());
        assert!(!set_named(&mut limits, "iops-total-min", 1));
    }

    #[test]
    fn members_that_are_not_there_stay() {
        let mut limits = Limits::default();
        set_named(&mut limits, "iops-total", 7);
        let said = ThrottleLimits {
            bps_read: Some(9),
            ..ThrottleLimits::default()
        };
        let limits = changed(limits, &said).unwrap();
        assert_eq!(limits.rate(Measure::IopsTotal).average, 7);
        assert_eq!(limits.rate(Measure::BpsRead).average, 9);
        for (average, length) in [(-1, 1), (1, -1), (1, 1 << 32)] {
            let said = ThrottleLimits {
                bps_read: Some(average),
                bps_read_max_length: Some(length),
                ..ThrottleLimits::default()
            };
            assert!(changed(limits, &said).is_err());
        }
    }
}
