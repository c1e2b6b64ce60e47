use super::*;
use crate::migration::fake::{Guest, Memory, pair, sections, sockets};
use api_spec::RunState;

#[test]
fn a_busy_machine_arrives_whole() {
    for (multifd, zstd) in [
        (None, None),
        (Some(2), None),
        (Some(5), None),
        (Some(2), Some(1)),
    ] {
        let from = Memory::new(&[3000, 10]);
        from.fill(7);
        let to = Memory::new(&[3000, 10]);
        // Packing is slow in a build for tests.
        let pause = if zstd.is_some() { 5000 } else { 20 };
        let guest = Guest::new(&from.view, 2, pause);
        let options = SendOptions {
            multifd,
            zstd,
            ..SendOptions::default()
        };
        let channels = sockets(1 + usize::from(multifd.unwrap_or(0)));
        let pair = pair(&from, &to, Some(guest), options, channels);
        let (said, loaded) = (pair.said.clone(), pair.loaded.clone());
        let (end, state) = pair.run();
        assert_eq!((end, state), (SourceEnd::Completed, Ok(RunState::Running)));
        assert!(from.bytes() == to.bytes(), "{multifd:?} {zstd:?}");
        assert_eq!(*loaded.lock().unwrap(), sections());
        let order = ["stop", "load", "hand_over", "activate"];
        assert_eq!(*said.lock().unwrap(), order);
    }
}
