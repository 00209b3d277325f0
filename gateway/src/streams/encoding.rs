//! Compressed input: frames and whole bodies, decoded up to a cap, so that little on the wire cannot become much in memory.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// Window that every decoder of zstd is asked to have; data that needs more is refused.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Zstd,
    Gzip,
}

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// More would come out than is allowed.
    TooLarge,
    /// They are not what they are said to be.
    Broken,
}

impl Encoding {
    /// What `Content-Encoding` says of a body; none if it is an encoding we do not have.
    pub(super) fn of_body(headers: &HeaderMap) -> Option<Self> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Some(Self::Identity) };
        match value.to_str().ok()?.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Self::Identity),
            "zstd" => Some(Self::Zstd),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            _ => None,
        }
    }

    /// The bytes themselves, at most so many.
    pub(super) fn decode(self, bytes: Bytes, bytes_max: usize) -> Result<Bytes, Undecodable> {
        match self {
            Self::Identity if bytes.len() > bytes_max => Err(Undecodable::TooLarge),
            Self::Identity => Ok(bytes),
            Self::Gzip => read(MultiGzDecoder::new(bytes.as_ref()), bytes_max),
            Self::Zstd => {
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
                let decoder = StreamingDecoder::new_with_decoder(bytes.as_ref(), decoder);
                read(decoder.map_err(|_| Undecodable::Broken)?, bytes_max)
            }
        }
    }
}

fn read(decoder: impl Read, bytes_max: usize) -> Result<Bytes, Undecodable> {
    let mut out = Vec::new();
    decoder.take(bytes_max as u64 + 1).read_to_end(&mut out).map_err(|_| Undecodable::Broken)?;
    if out.len() > bytes_max { Err(Undecodable::TooLarge) } else { Ok(out.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::{collection::vec, prelude::*};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn zstd(bytes: &[u8]) -> Bytes {
        compress_to_vec(bytes, CompressionLevel::Fastest).into()
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(bytes in vec(0u8..4, 0..5_000)) {
            for (encoding, compressed) in [
                (Encoding::Identity, Bytes::copy_from_slice(&bytes)),
                (Encoding::Gzip, gzip(&bytes)),
                (Encoding::Zstd, zstd(&bytes)),
            ] {
                prop_assert_eq!(encoding.decode(compressed.clone(), bytes.len()), Ok(Bytes::copy_from_slice(&bytes)));
                if let Some(less) = bytes.len().checked_sub(1) {
                    prop_assert_eq!(encoding.decode(compressed, less), Err(Undecodable::TooLarge));
                }
            }
        }

        #[test]
        fn garbage_is_refused(bytes in vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = Encoding::Gzip.decode(bytes.clone(), 1_000);
            let _ = Encoding::Zstd.decode(bytes, 1_000);
        }
    }

    #[test]
    fn a_bomb_is_cut_off() {
        let zeros = vec![0; 8 << 20];
        for (encoding, bomb) in [(Encoding::Gzip, gzip(&zeros)), (Encoding::Zstd, zstd(&zeros))] {
            assert!(bomb.len() < 1 << 20);
            assert_eq!(encoding.decode(bomb, 2 << 20), Err(Undecodable::TooLarge));
        }
        // A frame of zstd that asks for a window of 64 MiB.
        let greedy = Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 16 << 3, 0x01, 0x00, 0x00]);
        assert_eq!(Encoding::Zstd.decode(greedy, 2 << 20), Err(Undecodable::Broken));
    }

    #[test]
    fn half_is_nothing() {
        let text = b"some text that is long enough to be compressed, some text that is long enough".repeat(50);
        for (encoding, whole) in [(Encoding::Gzip, gzip(&text)), (Encoding::Zstd, zstd(&text))] {
            assert_eq!(encoding.decode(whole.slice(..whole.len() - 6), 1 << 20), Err(Undecodable::Broken));
        }
    }

    #[test]
    fn names_of_encodings() {
        let named = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, text.parse().unwrap());
            Encoding::of_body(&headers)
        };
        assert_eq!(Encoding::of_body(&HeaderMap::new()), Some(Encoding::Identity));
        assert_eq!(named("gzip"), Some(Encoding::Gzip));
        assert_eq!(named(" ZSTD "), Some(Encoding::Zstd));
        assert_eq!((named("br"), named("gzip, zstd")), (None, None));
    }
}
