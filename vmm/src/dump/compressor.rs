//! Pages made smaller, each for itself: whoever reads a dump looks for single ones.

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};

use super::Compression;

pub(super) const PAGE: usize = 4096;
/// zlib's fastest level; dumps are large.
const LEVEL: i32 = 1;

/// What a thread needs for it, from page to page.
pub(super) struct Compressor {
    method: Method,
    packed: Vec<u8>,
}

enum Method {
    Zlib(Box<CompressorOxide>),
    Snappy(Box<snap::raw::Encoder>),
}

impl Compressor {
    pub fn new(compression: Compression) -> Self {
        let (method, room) = match compression {
            Compression::Zlib => {
                // With zlib's header, default strategy.
                let flags = create_comp_flags_from_zip_params(LEVEL, 15, 0);
                (Method::Zlib(Box::new(CompressorOxide::new(flags))), PAGE)
            }
            // It begins only with room for the worst page.
            Compression::Snappy => (
                Method::Snappy(Box::new(snap::raw::Encoder::new())),
                snap::raw::max_compress_len(PAGE),
            ),
        };
        Compressor {
            method,
            packed: vec![0; room],
        }
    }

    /// The page in fewer bytes, if it can be.
    pub fn smaller(&mut self, page: &[u8; PAGE]) -> Option<&[u8]> {
        let len = match &mut self.method {
            Method::Zlib(zlib) => {
                zlib.reset();
                let (status, _, len) = compress(zlib, page, &mut self.packed, TDEFLFlush::Finish);
                (status == TDEFLStatus::Done).then_some(len)
            }
            Method::Snappy(snappy) => snappy.compress(page, &mut self.packed).ok(),
        };
        self.packed.get(..len.filter(|len| *len < PAGE)?)
    }
}
