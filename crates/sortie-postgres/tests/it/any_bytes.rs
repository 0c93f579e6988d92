//! What must hold for every input. The fuzz target and the test at the end call the same function.

use std::fmt::Debug;

use bytes::BytesMut;
use sortie_postgres::{Frame, ProtocolError, Scanner, Startup, StreamError};

/// Small, so that random lengths are found on both sides of it.
pub(crate) const FRAME_MAX: usize = 300;

/// Decodes `data` as a client's stream and checks that
///
/// 1. nothing panics,
/// 2. the pieces in which the stream arrives change nothing,
/// 3. an accepted frame never needs more than its limit in the buffer,
/// 4. a message that was understood is encoded to the bytes that it came from;
///
/// and, as a server's stream, that the pieces change nothing about what the scanner tells of it.
///
/// The first byte says how many bytes arrive at a time.
pub(crate) fn check(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let piece = usize::from(piece).max(1);
    let whole = run(stream, stream.len().max(1), startup, sortie_postgres::STARTUP_MAX + 4);
    assert_eq!(whole, run(stream, piece, startup, sortie_postgres::STARTUP_MAX + 4));
    let whole = run(stream, stream.len().max(1), frame, FRAME_MAX + 1);
    assert_eq!(whole, run(stream, piece, frame, FRAME_MAX + 1));
    assert_eq!(scan(stream, stream.len().max(1)), scan(stream, piece));
}

/// A frame's type, and its body where the scanner has it.
type Ended = (u8, Option<Vec<u8>>);

/// What the scanner tells: the frames that end, with their bodies; and why it gave up.
fn scan(stream: &[u8], piece: usize) -> (Vec<Ended>, Option<StreamError>) {
    let (mut scanner, mut told) = (Scanner::new(), Vec::new());
    for chunk in stream.chunks(piece) {
        let mut events = Vec::new();
        let outcome = scanner.scan(chunk, 0, &mut events);
        for event in &events {
            let body = event.body(chunk).map(<[u8]>::to_vec);
            told.extend((0..event.frames).map(|_| (event.tag, body.clone())));
        }
        if let Err(error) = outcome {
            return (told, Some(error));
        }
    }
    (told, None)
}

/// Feeds `stream` in pieces until it ends or is lost; returns what came out and what was left.
fn run<T: Debug>(
    stream: &[u8],
    piece: usize,
    decode: fn(&mut BytesMut) -> Result<Option<T>, ProtocolError>,
    pending_max: usize,
) -> (Vec<T>, Result<BytesMut, ProtocolError>) {
    let (mut buffer, mut out) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match decode(&mut buffer) {
                Ok(Some(item)) => out.push(item),
                Ok(None) => break,
                Err(error) => return (out, Err(error)),
            }
        }
        assert!(buffer.len() < pending_max, "a complete frame was not taken");
    }
    (out, Ok(buffer))
}

fn startup(buffer: &mut BytesMut) -> Result<Option<Startup>, ProtocolError> {
    let before = buffer.clone();
    let packet = Startup::decode(buffer)?;
    if let Some(packet) = &packet {
        let mut again = BytesMut::new();
        packet.encode(&mut again);
        assert_eq!(again[..], before[..before.len() - buffer.len()]);
    } else {
        assert_eq!(*buffer, before, "an incomplete packet was touched");
    }
    Ok(packet)
}

fn frame(
    buffer: &mut BytesMut,
) -> Result<Option<Result<sortie_postgres::Frontend, ProtocolError>>, ProtocolError> {
    let before = buffer.clone();
    let Some(frame) = Frame::decode(buffer, FRAME_MAX)? else {
        assert_eq!(*buffer, before, "an incomplete frame was touched");
        return Ok(None);
    };
    let message = frame.message();
    if let Ok(message) = &message {
        let mut again = BytesMut::new();
        message.encode(&mut again);
        assert_eq!(again[..], before[..before.len() - buffer.len()]);
    }
    Ok(Some(message))
}

/// The gate has no fuzzer: random rounds from fixed seeds, half of them damaged real streams.
#[test]
fn any_bytes_keep_the_rules() {
    // SplitMix64 (Steele, Lea, Flood 2014): a few lines, and the same rounds on every machine.
    let mut state = 0x5eed_u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let corpus: [&[u8]; 4] = [
        b"\x03\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x14\0\x03\0\x02user\0alice\0\0",
        b"\x01\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\x01\x02\x03\x04",
        b"\x07Q\0\0\0\x0dSELECT 1\0X\0\0\0\x04",
        b"\x05P\0\0\0\x11s\0SELECT $1\0\0\0B\0\0\0\x13p\0s\0\0\0\0\x01\0\0\0\x011\0\0S\0\0\0\x04",
    ];
    for round in 0..20_000_usize {
        let mut data = match corpus.get(round % 8) {
            Some(stream) => stream.to_vec(),
            None => (0..random() % 64).map(|_| random().to_le_bytes()[0]).collect(),
        };
        for _ in 0..random() % 4 {
            if let Some(at) = (random() % 64).try_into().ok().filter(|&at: &usize| at < data.len())
            {
                data[at] = random().to_le_bytes()[0];
            }
        }
        check(&data);
    }
}
