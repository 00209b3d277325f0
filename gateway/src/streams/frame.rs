//! The frames of a streaming body (`s2s/proto`): a 3-byte big-endian length of what follows, a byte of flags, the payload.
//! Flags: bit 7 marks the last frame, whose payload is an HTTP status as u16 and a JSON text; bits 6-5 say how the payload
//! is compressed (0 not, 1 zstd, 2 gzip); the others are for later and ignored.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::encoding::Encoding;

/// Most that a length may announce: flags and payload.
pub(super) const FRAME_BYTES_MAX: usize = 2 << 20;
/// Longest payload, also once it is decompressed.
pub(super) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - 1;

const LENGTH_BYTES: usize = 3;
const TERMINAL: u8 = 0b1000_0000;

/// A frame as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) encoding: Encoding,
    pub(super) payload: Bytes,
}

/// Puts frames together from however the bytes arrive. Holds one incomplete frame at most, as long as [`Self::next`] is
/// asked until it has none before more is pushed.
#[derive(Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame. What is wrong with one is wrong with everything after it.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, &'static str> {
        let Some(length) = self.buffer.get(..LENGTH_BYTES) else { return Ok(None) };
        let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if length == 0 {
            return Err("the length of a frame is 0; a frame has at least its byte of flags");
        }
        if length > FRAME_BYTES_MAX {
            return Err("the length of a frame is over 2097152 bytes; split the append");
        }
        if self.buffer.len() < LENGTH_BYTES + length {
            self.buffer.reserve(LENGTH_BYTES + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        let mut payload = self.buffer.split_to(length).freeze();
        let flags = payload.get_u8();
        if flags & TERMINAL != 0 {
            return Err("a terminal frame is the server's to send; end the request instead");
        }
        let encoding = match flags >> 5 & 0b11 {
            0 => Encoding::Identity,
            1 => Encoding::Zstd,
            2 => Encoding::Gzip,
            _ => return Err("the compression of a frame is none that there is: 0 is none, 1 zstd, 2 gzip"),
        };
        Ok(Some(Frame { encoding, payload }))
    }

    /// Has a frame begun that is not complete?
    pub(super) fn is_inside(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// A frame that holds a message. None if it is too long for a frame.
pub(super) fn message(message: &impl prost::Message) -> Option<Bytes> {
    let payload = message.encoded_len();
    if payload > PAYLOAD_BYTES_MAX {
        return None;
    }
    let mut out = start(0, payload);
    message.encode_raw(&mut out);
    Some(out.freeze())
}

/// The last frame of an answer that did not end well.
pub(super) fn terminal(status: u16, json: &str) -> Bytes {
    let mut out = start(TERMINAL, 2 + json.len());
    out.put_u16(status);
    out.put_slice(json.as_bytes());
    out.freeze()
}

fn start(flags: u8, payload: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(LENGTH_BYTES + 1 + payload);
    out.put_uint(1 + payload as u64, LENGTH_BYTES);
    out.put_u8(flags);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = start(flags, payload.len());
        out.put_slice(payload);
        out.to_vec()
    }

    /// Everything that comes out if the bytes arrive in these pieces.
    fn decode(pieces: impl IntoIterator<Item = Vec<u8>>) -> (Vec<Frame>, Result<Decoder, &'static str>) {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(&piece);
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(problem) => return (frames, Err(problem)),
                }
            }
        }
        (frames, Ok(decoder))
    }

    fn problem(bytes: &[u8]) -> Option<&'static str> {
        decode([bytes.to_vec()]).1.err()
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_how_the_bytes_arrive(
            payloads in vec((vec(any::<u8>(), 0..300), 0u8..3, 0u8..32), 0..8),
            cuts in vec(1usize..400, 1..40),
        ) {
            let mut bytes: Vec<u8> = Vec::new();
            for (payload, encoding, reserved) in &payloads {
                bytes.extend(frame(encoding << 5 | reserved, payload));
            }
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(rest.len().min(*cut));
                pieces.push(piece.to_vec());
                rest = after;
            }
            let (frames, end) = decode(pieces);
            prop_assert!(!end.unwrap().is_inside());
            prop_assert_eq!(frames.len(), payloads.len());
            for (frame, (payload, encoding, _)) in frames.iter().zip(&payloads) {
                prop_assert_eq!(&frame.payload, payload);
                let expected = [Encoding::Identity, Encoding::Zstd, Encoding::Gzip][usize::from(*encoding)];
                prop_assert_eq!(frame.encoding, expected);
            }
        }

        #[test]
        fn garbage_never_panics_and_is_never_kept_for_long(bytes in vec(any::<u8>(), 0..2_000)) {
            let (_, end) = decode([bytes.clone()]);
            if let Ok(decoder) = end {
                prop_assert!(decoder.buffer.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn the_limit_is_inclusive() {
        let (frames, end) = decode([frame(0, &vec![7; PAYLOAD_BYTES_MAX])]);
        assert_eq!((frames[0].payload.len(), end.unwrap().is_inside()), (PAYLOAD_BYTES_MAX, false));
        assert!(problem(&[0x20, 0, 0]).is_none(), "the longest frame begins");
        assert!(problem(&[0x20, 0, 1]).unwrap().contains("2097152"), "refused by its length, before it comes");
        assert!(problem(&[0xff, 0xff, 0xff]).is_some());
    }

    #[test]
    fn what_is_no_frame_of_a_client() {
        assert!(problem(&[0, 0, 0]).unwrap().contains("is 0"));
        assert!(problem(&[0, 0, 1, 0x80]).unwrap().contains("terminal"));
        assert!(problem(&[0, 0, 1, 0x60]).unwrap().contains("compression"));
        assert!(problem(&[0, 0, 1, 0x1f]).is_none(), "bits for later are ignored");
        let (frames, end) = decode([vec![0, 0, 1, 0, 0, 0]]);
        assert_eq!((frames.len(), end.unwrap().is_inside()), (1, true));
    }

    #[test]
    fn answers() {
        let mut decoder = Decoder::default();
        let text = "é".to_owned();
        decoder.push(&message(&text).unwrap());
        assert_eq!(decoder.next().unwrap().unwrap().payload, prost::Message::encode_to_vec(&text));
        assert_eq!(terminal(412, "{}"), &[0, 0, 5, 0x80, 0x01, 0x9c, b'{', b'}'][..]);
        assert!(message(&"x".repeat(PAYLOAD_BYTES_MAX)).is_none());
    }
}
