//! Pages packed as zstd frames (RFC 8878), in safe Rust.

use std::io::Read;

use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, FrameCompressor, MatchGeneratorDriver};

/// Packs, one frame for each call.
pub struct Packer {
    encoder: FrameCompressor<std::io::Cursor<Vec<u8>>, Vec<u8>, MatchGeneratorDriver>,
    plain: Vec<u8>,
}

impl Default for Packer {
    fn default() -> Self {
        Packer {
            // The one level there is; the levels that clients choose are all of them this one.
            encoder: FrameCompressor::new(CompressionLevel::Fastest),
            plain: Vec::new(),
        }
    }
}

impl Packer {
    /// Where the bytes to pack are put.
    pub fn plain(&mut self) -> &mut Vec<u8> {
        self.plain.clear();
        &mut self.plain
    }

    /// Packs them; `None` when they would not get fewer.
    pub fn pack(&mut self) -> Option<Vec<u8>> {
        let plain = std::mem::take(&mut self.plain);
        let len = plain.len();
        self.encoder.set_source(std::io::Cursor::new(plain));
        self.encoder.set_drain(Vec::with_capacity(len));
        self.encoder.compress();
        let packed = self.encoder.take_drain()?;
        if let Some(source) = self.encoder.take_source() {
            self.plain = source.into_inner();
        }
        (packed.len() < len).then_some(packed)
    }
}

/// The `len` bytes that were packed; `None` when it is not exactly that many.
pub fn unpack(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut plain = vec![0; len];
    let mut reader = StreamingDecoder::new(packed).ok()?;
    reader.read_exact(&mut plain).ok()?;
    let whole = matches!(reader.read(&mut [0]), Ok(0)) && reader.get_ref().is_empty();
    whole.then_some(plain)
}
