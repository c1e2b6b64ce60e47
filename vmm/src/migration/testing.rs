//! The migration stream for fuzz targets: bytes as they are, or records with the right heads and checksums around
//! anything.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use super::host::{Cancel, Channel, ChannelKind, Stopped, TargetHost};
use super::ram::{PAGE, RamBlock, RamView};
use super::target::{RamLoad, Target};
use super::wire::{Features, Head, Hello, Kind, put_blocks, put_config};
use super::{pages, still};
use crate::machine::saved::MachineConfig;
use crate::memory::mapping::{Mapping, Sharing, Source};

const PAGES: u64 = 64;

const KINDS: [Kind; 12] = [
    Kind::Pages,
    Kind::Pass,
    Kind::State,
    Kind::Section,
    Kind::End,
    Kind::Go,
    Kind::Config,
    Kind::Blocks,
    Kind::Ready,
    Kind::Running,
    Kind::Refused,
    Kind::Present,
];

struct Host;

impl TargetHost for Host {
    fn check(&mut self, _: &MachineConfig) -> Result<(), String> {
        Ok(())
    }
    fn load(&mut self, _: Stopped) -> Result<(), String> {
        Ok(())
    }
    fn activate(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A case. The first byte says whether it is a snapshot or a migration, with a good beginning or
/// without, and of records or of bytes.
pub fn stream(data: &[u8]) {
    let [mode, rest @ ..] = data else { return };
    let ram = ram();
    let is_still = mode & 1 == 1;
    let mut bytes = Vec::new();
    let mut sequence = 0;
    if mode & 2 == 0 {
        let features = match is_still {
            true => Features::STILL,
            false => Features::default().with(Features::ZSTD, true),
        };
        let hello = Hello {
            features,
            id: [0; 16],
            channel: 0,
            channels: 0,
        };
        bytes.extend_from_slice(&hello.encode());
        let config = put_config(&MachineConfig::default()).unwrap_or_default();
        let blocks = put_blocks(&pages::entries(ram, false));
        for (kind, payload) in [(Kind::Config, config), (Kind::Blocks, blocks)] {
            Head::put(&mut bytes, kind, sequence, &payload, 0);
            sequence += 1;
        }
    }
    match mode & 4 == 0 {
        true => records(rest, sequence, &mut bytes),
        false => bytes.extend_from_slice(rest),
    }
    match is_still {
        true => drop(still::read(&mut bytes.as_slice(), ram, &|_| Ok(()))),
        false => take(&bytes, ram),
    }
}

/// Of each record: which kind, bytes of the payload and of pages behind it, and these bytes.
fn records(mut rest: &[u8], mut sequence: u32, bytes: &mut Vec<u8>) {
    while let [kind, len, data, more @ ..] = rest {
        let kind = KINDS[usize::from(*kind) % KINDS.len()];
        let (payload, more) = more.split_at(more.len().min(usize::from(*len)));
        // Data in whole pages, or not.
        let data = match data & 128 {
            0 => usize::from(*data),
            _ => usize::from(*data & 15) * PAGE as usize,
        };
        Head::put(bytes, kind, sequence, payload, data as u32);
        bytes.resize(bytes.len() + data, 0x28);
        sequence += 1;
        rest = more;
    }
}

fn take(bytes: &[u8], ram: &RamView) {
    let (Ok((mut out, into)), Ok(cancel)) = (UnixStream::pair(), Cancel::new()) else {
        return;
    };
    // All of it fits into the socket, or the rest does not matter.
    let _ = out.set_nonblocking(true);
    let _ = out.write(bytes);
    drop(out);
    let target = Target {
        main: Channel {
            fd: into.into(),
            kind: ChannelKind::Duplex,
        },
        more: Box::new(|_| Err(std::io::ErrorKind::ConnectionRefused.into())),
        ram: ram.clone(),
        ram_load: RamLoad::Read,
        counters: Arc::default(),
        cancel,
        host: Box::new(Host),
    };
    drop(target.run());
}

fn ram() -> &'static RamView {
    static RAM: OnceLock<(RamView, Mapping)> = OnceLock::new();
    let make = || {
        let len = PAGES * PAGE;
        let mapping = Mapping::new(
            Source::Anonymous,
            Sharing::Private,
            len as usize,
            4096,
            false,
        )
        .expect("memory");
        let block = RamBlock {
            name: "pc.ram".into(),
            len,
            host: mapping.addr() as u64,
            shared: false,
            file: None,
        };
        (
            RamView {
                blocks: vec![block],
            },
            mapping,
        )
    };
    &RAM.get_or_init(make).0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fuzzing_begins_with_does_no_harm() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fuzz/corpus/migration_stream"
        );
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            stream(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 5, "{count} cases");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn no_stream_does_harm(data in proptest::collection::vec(any::<u8>(), 0..500)) {
            stream(&data);
        }
    }
}
