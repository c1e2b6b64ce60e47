//! Compressed clusters.

use std::io::Read;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use ruzstd::decoding::StreamingDecoder;

use super::header::Compression;

/// The `size` bytes of a cluster; `None` when `packed`, which may have other bytes behind it, is
/// not that many.
pub(super) fn unpack(compression: Compression, packed: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut plain = vec![0; size];
    match compression {
        Compression::Zlib => {
            let mut state = DecompressorOxide::new();
            let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
            let (status, _, got) = decompress(&mut state, packed, &mut plain, 0, flags);
            let whole = matches!(status, TINFLStatus::Done | TINFLStatus::HasMoreOutput);
            (whole && got == size).then_some(plain)
        }
        Compression::Zstd => {
            // In safe Rust, too: what is unpacked comes from who knows where.
            let mut reader = StreamingDecoder::new(packed).ok()?;
            reader.read_exact(&mut plain).ok()?;
            Some(plain)
        }
    }
}
