//! Snapshots as text.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use block::{SnapshotDisk, SnapshotView};

use super::disks;
use crate::control::Control;
use crate::control::commands::human;
use crate::logging::civil_time;
use crate::sys;

impl Control {
    /// `info snapshots`.
    pub(in crate::control) fn tell_snapshots(&self) -> String {
        match self.blockdevs.graph().snapshot_disks(None) {
            Ok(all) => table(&all),
            Err(error) => format!("{error}\n"),
        }
    }
}

fn table(all: &[SnapshotDisk]) -> String {
    let state_disk = match disks::first_with_image(all) {
        Ok(disk) => disk,
        Err(error) => return format!("{error}\n"),
    };
    if all.iter().all(|disk| disk.snapshots.is_empty()) {
        return "There is no snapshot available.\n".to_owned();
    }
    let whole = |view: &&SnapshotView| all.iter().all(|disk| disks::has(disk, &view.name));
    let mut text = "List of snapshots present on all disks:\n".to_owned();
    let loadable: Vec<&SnapshotView> = state_disk.snapshots.iter().filter(whole).collect();
    match loadable.is_empty() {
        true => text.push_str("None\n"),
        false => head(&mut text),
    }
    // Their ids may differ from disk to disk.
    loadable.iter().for_each(|view| row(&mut text, "--", view));
    for disk in all {
        let parts: Vec<&SnapshotView> = disk.snapshots.iter().filter(|v| !whole(v)).collect();
        if parts.is_empty() {
            continue;
        }
        let name = &disk.device;
        let _ = writeln!(
            text,
            "\nList of partial (non-loadable) snapshots on '{name}':"
        );
        head(&mut text);
        parts.iter().for_each(|view| row(&mut text, &view.id, view));
    }
    text
}

fn head(text: &mut String) {
    let _ = writeln!(
        text,
        "{:<7} {:<16} {:>8} {:>19} {:>15} {:>10}",
        "ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"
    );
}

fn row(text: &mut String, id: &str, view: &SnapshotView) {
    let size = human(view.vm_state_size);
    let millis = view.vm_clock_nsec / 1_000_000;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let clock = format!(
        "{:04}:{:02}:{:02}.{millis:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
    );
    let icount = view
        .icount
        .map_or("--".to_owned(), |count| count.to_string());
    let date = date_at(local(view.date_sec.into()));
    let _ = writeln!(
        text,
        "{id:<7} {:<16} {size:>8} {date:>19} {clock:>15} {icount:>10}",
        view.name,
    );
}

/// A name for a snapshot that was not given one.
pub(super) fn name_for_now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    name_at(local(now.unwrap_or_default().as_secs()))
}

fn date_at([year, month, day, hour, minute, second]: [u64; 6]) -> String {
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

fn name_at([year, month, day, hour, minute, second]: [u64; 6]) -> String {
    format!("vm-{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

/// Seconds since 1970 as year, month, day, hour, minute and second here.
fn local(seconds: u64) -> [u64; 6] {
    let offset = sys::utc_offset(i64::try_from(seconds).unwrap_or(0));
    civil_time(seconds.saturating_add_signed(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(id: &str, name: &str, vm_state_size: u64) -> SnapshotView {
        SnapshotView {
            id: id.to_owned(),
            name: name.to_owned(),
            vm_state_size,
            vm_clock_nsec: 3_661_005_000_000,
            ..SnapshotView::default()
        }
    }

    fn disk(name: &str, image: bool, snapshots: Vec<SnapshotView>) -> SnapshotDisk {
        SnapshotDisk {
            node: name.to_owned(),
            device: name.to_owned(),
            drive: String::new(),
            image: image.then(|| name.to_owned()),
            snapshots,
        }
    }

    #[test]
    fn tables_tell_what_can_be_loaded() {
        let none = "no block device can store vmstate for snapshot\n";
        assert_eq!(table(&[disk("r", false, vec![])]), none);
        let empty = [disk("a", true, vec![])];
        assert_eq!(table(&empty), "There is no snapshot available.\n");
        let both = [
            disk("a", true, vec![view("1", "s", 534_528), view("2", "t", 0)]),
            disk("b", true, vec![view("7", "s", 0)]),
        ];
        let text = table(&both);
        let lines: Vec<&str> = text.lines().collect();
        let head =
            "ID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT";
        assert_eq!(
            lines[..2],
            ["List of snapshots present on all disks:", head]
        );
        assert!(
            lines[2].starts_with("--      s                 522 KiB "),
            "{text}"
        );
        assert!(lines[2].ends_with("  0001:01:01.005         --"), "{text}");
        assert_eq!(
            lines[3..6],
            ["", "List of partial (non-loadable) snapshots on 'a':", head]
        );
        assert!(lines[6].starts_with("2       t "), "{text}");
        assert_eq!(lines.len(), 7);
        let single = [both[0].clone(), disk("r", false, vec![])];
        let text = table(&single);
        assert!(
            text.contains("all disks:\nNone\n\nList of partial"),
            "{text}"
        );
    }

    #[test]
    fn dates_are_told() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_290_435_240, "2010-11-22 14:14:00"),
            (4_294_967_295, "2106-02-07 06:28:15"),
        ] {
            assert_eq!(date_at(civil_time(seconds)), text);
        }
    }

    #[test]
    fn snapshots_without_a_name_get_one() {
        assert_eq!(name_at([2026, 1, 2, 3, 4, 5]), "vm-20260102030405");
        assert_eq!(name_for_now().len(), "vm-20260102030405".len());
    }
}
