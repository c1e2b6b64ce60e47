//! Two virtual machines of this machine's KVM; skipped where there is none.

use super::*;
use crate::accel::kvm::KvmAccel;
use crate::accel::{Accel, AccelState};
use crate::machine::saved::golden_tests::golden;

fn accel() -> Option<KvmAccel> {
    match KvmAccel::new(&[]) {
        Ok(accel) => Some(accel),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn find<'a>(sections: &'a [Section], id: &str, instance: &str) -> &'a Section {
    let same = |section: &&Section| (&*section.id, &*section.instance) == (id, instance);
    sections.iter().find(same).unwrap()
}

fn unpack<S: serde::de::DeserializeOwned>(sections: &[Section], id: &str, instance: &str) -> S {
    find(sections, id, instance).unpack(id, VERSION).unwrap()
}

/// Interrupt controllers and a timer as a guest might have set them up, with interrupt 4 (edge)
/// and 11 (level) high.
fn busy(accel: &KvmAccel) -> [std::sync::Arc<dyn devices::irq::IrqLine>; 2] {
    let mut sections = accel.save().unwrap();
    for section in &mut sections {
        let packed = match (section.id.as_str(), section.instance.as_str()) {
            (PIC, MASTER) => {
                let mut pic: PicV1 = section.unpack(PIC, VERSION).unwrap();
                (pic.irq_base, pic.imr) = (0x30, 0xab);
                Section::pack(PIC, MASTER, VERSION, &pic)
            }
            (IOAPIC, _) => {
                let mut ioapic: IoapicV1 = section.unpack(IOAPIC, VERSION).unwrap();
                ioapic.redirtbl[4] = 0x1_0034;
                ioapic.redirtbl[11] = 0x1_803b;
                ioapic.ioregsel = 0x12;
                Section::pack(IOAPIC, MACHINE, VERSION, &ioapic)
            }
            (PIT, _) => {
                let mut pit: PitV1 = section.unpack(PIT, VERSION).unwrap();
                let timer = &mut pit.channels[2];
                (timer.count, timer.mode, timer.rw_mode, timer.gate) = (0x1234, 3, 3, 1);
                Section::pack(PIT, MACHINE, VERSION, &pit)
            }
            _ => continue,
        };
        accel.restore(&packed.unwrap()).unwrap();
    }
    let lines = [accel.irqs().gsi_line(4), accel.irqs().gsi_line(11)];
    lines.iter().for_each(|line| line.set(true));
    lines
}

#[test]
fn chips_go_on_in_another_machine() {
    let (Some(old), Some(new)) = (accel(), accel()) else {
        return;
    };
    let lines = busy(&old);
    let saved = old.save().unwrap();
    let names: Vec<_> = saved
        .iter()
        .map(|section| (&*section.id, &*section.instance))
        .collect();
    assert_eq!(names, old.parts());
    let master: PicV1 = unpack(&saved, PIC, MASTER);
    assert_eq!((master.irq_base, master.imr), (0x30, 0xab));
    assert_eq!(master.irr & 1 << 4, 1 << 4);
    let ioapic: IoapicV1 = unpack(&saved, IOAPIC, MACHINE);
    assert_eq!(ioapic.irr & 1 << 11, 1 << 11);
    assert_eq!(ioapic.redirtbl[4] & 0xff, 0x34);
    // Devices come first and drive their lines.
    let again = [new.irqs().gsi_line(4), new.irqs().gsi_line(11)];
    again.iter().for_each(|line| line.set(true));
    for section in &saved {
        new.restore(section).unwrap();
    }
    let restored = new.save().unwrap();
    assert_eq!(restored, saved);
    // Both fall, and both fall alike.
    for (one, other) in lines.iter().zip(&again) {
        one.set(false);
        other.set(false);
    }
    let (old, new) = (old.save().unwrap(), new.save().unwrap());
    assert_eq!(old, new);
    let ioapic: IoapicV1 = unpack(&new, IOAPIC, MACHINE);
    assert_eq!(ioapic.irr & (1 << 11 | 1 << 4), 0);
}

/// Why devices say what is not of their state only when all is restored.
#[test]
fn a_line_that_rises_before_the_chips_are_restored_is_not_seen() {
    let (Some(old), Some(new)) = (accel(), accel()) else {
        return;
    };
    let saved = old.save().unwrap();
    let [early, late] = [4, 3].map(|gsi| new.irqs().gsi_line(gsi));
    early.set(true);
    for section in &saved {
        new.restore(section).unwrap();
    }
    let seen = || {
        let pic: PicV1 = unpack(&new.save().unwrap(), PIC, MASTER);
        pic.irr & (1 << 4 | 1 << 3)
    };
    assert_eq!(seen(), 0);
    late.set(true);
    assert_eq!(seen(), 1 << 3);
    early.set(true);
    assert_eq!(seen(), 1 << 3, "it is high, and does not rise");
}

#[test]
fn the_clock_goes_on_from_where_it_stood() {
    let (Some(old), Some(new)) = (accel(), accel()) else {
        return;
    };
    let clock_of = |accel: &KvmAccel| {
        let state: ClockV1 = unpack(&accel.save().unwrap(), CLOCK, MACHINE);
        state.ns
    };
    let later = Section::pack(CLOCK, MACHINE, VERSION, &ClockV1 { ns: 7_000_000_000 });
    old.restore(&later.unwrap()).unwrap();
    old.clock_start();
    std::thread::sleep(std::time::Duration::from_millis(3));
    old.clock_stop();
    let stopped = clock_of(&old);
    assert!(
        (7_003_000_000..8_000_000_000).contains(&stopped),
        "{stopped}"
    );
    std::thread::sleep(std::time::Duration::from_millis(3));
    old.clock_stop();
    assert_eq!(clock_of(&old), stopped, "it stands still");
    new.restore(find(&old.save().unwrap(), CLOCK, MACHINE))
        .unwrap();
    assert_eq!(clock_of(&new), stopped);
    new.clock_start();
    let now = new.vm().get_clock().unwrap().clock;
    assert!((stopped..stopped + 1_000_000_000).contains(&now), "{now}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(accel) = accel() else {
        return;
    };
    let saved = accel.save().unwrap();
    let refused = |section: Section| accel.restore(&section).unwrap_err();
    let ioapic = find(&saved, IOAPIC, MACHINE).clone();
    let text = refused(Section {
        version: 9,
        ..ioapic.clone()
    });
    assert_eq!(
        text,
        "Section 'ioapic': version 9 is not supported (supported: 1)"
    );
    let text = refused(Section {
        id: "openpic".into(),
        ..ioapic.clone()
    });
    assert_eq!(text, "Unknown section 'openpic' of instance '/machine'");
    let text = refused(Section {
        id: PIT.into(),
        instance: MACHINE.into(),
        ..ioapic.clone()
    });
    assert!(text.contains("unknown field"), "{text}");
    let mut longer = ioapic;
    longer.body.push(0);
    assert_eq!(refused(longer), "Section 'ioapic': trailing bytes");
}

/// Every field of a state by itself: its golden file, read and written again.
fn check<S: Serialize + serde::de::DeserializeOwned>((id, instance): (&str, &str), state: &S) {
    let section = Section::pack(id, instance, VERSION, state).unwrap();
    golden::check("fields", &section, &mut |golden| {
        let state: S = golden
            .unpack(id, VERSION)
            .map_err(|error| error.to_string())?;
        Section::pack(id, &golden.instance, VERSION, &state).map_err(|error| error.to_string())
    });
}

#[test]
fn earlier_states_can_be_read() {
    let pic = PicV1 {
        last_irr: 1,
        irr: 2,
        imr: 3,
        isr: 4,
        priority_add: 5,
        irq_base: 6,
        read_reg_select: 1,
        poll: 1,
        special_mask: 1,
        init_state: 2,
        auto_eoi: 1,
        rotate_on_auto_eoi: 1,
        special_fully_nested_mode: 1,
        init4: 1,
        elcr: 0xc,
        elcr_mask: 0xde,
    };
    check((PIC, SLAVE), &pic);
    let ioapic = IoapicV1 {
        base_address: 0xfec0_0000,
        ioregsel: 0x12,
        id: 0x0100_0000,
        irr: 1 << 11,
        redirtbl: std::array::from_fn(|input| 0x1_0030 + input as u64),
    };
    check((IOAPIC, MACHINE), &ioapic);
    let channel = ChannelV1 {
        count: 0x1_0000,
        latched_count: 2,
        count_latched: 3,
        status_latched: 1,
        status: 5,
        read_state: 1,
        write_state: 2,
        write_latch: 3,
        rw_mode: 3,
        mode: 2,
        bcd: 1,
        gate: 1,
    };
    let pit = PitV1 {
        channels: [channel.clone(), ChannelV1::default(), channel],
        flags: 1,
    };
    check((PIT, MACHINE), &pit);
    check((CLOCK, MACHINE), &ClockV1 { ns: 5 << 40 });
}
