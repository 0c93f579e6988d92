//! The scanner against a model that has all of the stream at once.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use sortie_postgres::backend::Status;
use sortie_postgres::{CARRIED_MAX, Event, Scanner, StreamError};

/// A frame as the model sees it.
#[derive(Clone, Debug)]
struct Sent {
    tag: u8,
    body: Vec<u8>,
}

/// What the scanner told of a stream: the frames that ended, with their bodies where it has them.
#[derive(Debug, Eq, PartialEq)]
struct Told {
    tag: u8,
    body: Option<Vec<u8>>,
}

fn frame() -> impl Strategy<Value = Sent> {
    let some = prop::sample::select(&b"ACDEGHNRSTVWdtv"[..]);
    let empty = prop::sample::select(&b"123Icns"[..]);
    let status = prop::sample::select(&b"ITE"[..]);
    prop_oneof![
        4 => vec(any::<u8>(), 0..40).prop_map(|body| Sent { tag: b'D', body }),
        4 => (some, vec(any::<u8>(), 0..40)).prop_map(|(tag, body)| Sent { tag, body }),
        2 => empty.prop_map(|tag| Sent { tag, body: vec![] }),
        2 => status.prop_map(|status| Sent { tag: b'Z', body: vec![status] }),
    ]
}

fn stream(frames: &[Sent]) -> Vec<u8> {
    let mut stream = Vec::new();
    for frame in frames {
        stream.push(frame.tag);
        stream.extend_from_slice(&u32::try_from(frame.body.len() + 4).unwrap().to_be_bytes());
        stream.extend_from_slice(&frame.body);
    }
    stream
}

/// Scans a stream in chunks, each into a buffer of its own behind some other bytes.
fn scan(stream: &[u8], chunks: &[usize]) -> (Vec<Told>, Scanner) {
    let (mut scanner, mut told) = (Scanner::new(), Vec::new());
    let (mut rest, mut chunks) = (stream, chunks.iter().cycle());
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at((*chunks.next().unwrap()).min(rest.len()));
        rest = later;
        let mut buffer = b"before".to_vec();
        buffer.extend_from_slice(chunk);
        let mut events = Vec::new();
        scanner.scan(chunk, 6, &mut events).unwrap();
        tiles(&events, 6, buffer.len());
        for event in &events {
            for _ in 0..event.frames {
                let body = event.body(&buffer).map(<[u8]>::to_vec);
                told.push(Told { tag: event.tag, body });
            }
        }
    }
    (told, scanner)
}

#[track_caller]
fn tiles(events: &[Event], from: usize, to: usize) {
    let end = events.iter().fold(from, |here, event| {
        assert_eq!(event.start, here, "{events:?}");
        assert!(event.end > event.start, "{events:?}");
        event.end
    });
    assert_eq!(end, to, "{events:?}");
}

proptest! {
    #[test]
    fn chunks_change_nothing(
        frames in vec(frame(), 1..30),
        chunks in vec(1_usize..50, 1..8),
    ) {
        let (told, scanner) = scan(&stream(&frames), &chunks);
        prop_assert!(scanner.is_between());
        let model: Vec<Told> = frames
            .iter()
            .map(|Sent { tag, body }| {
                let bulk = matches!(tag, b'D' | b'd');
                Told { tag: *tag, body: (!bulk).then(|| body.clone()) }
            })
            .collect();
        prop_assert_eq!(told, model);
    }

    #[test]
    fn any_bytes_are_told_apart_or_refused(
        bytes in vec(any::<u8>(), 0..300),
        chunk in 1_usize..40,
    ) {
        let (mut scanner, mut events) = (Scanner::new(), Vec::new());
        for (number, piece) in bytes.chunks(chunk).enumerate() {
            let first = events.len();
            if scanner.scan(piece, number * chunk, &mut events).is_err() {
                return Ok(());
            }
            tiles(&events[first..], number * chunk, number * chunk + piece.len());
            for event in &events[first..] {
                event.body(&bytes);
                event.status(&bytes);
            }
        }
    }
}

#[test]
fn rows_are_told_in_runs_and_never_kept() {
    let row = Sent { tag: b'D', body: vec![0; 10] };
    let frames = [row.clone(), row.clone(), row, Sent { tag: b'Z', body: vec![b'T'] }];
    let bytes = stream(&frames);
    let (mut scanner, mut events) = (Scanner::new(), Vec::new());
    scanner.scan(&bytes, 0, &mut events).unwrap();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!((events[0].frames, events[0].end), (3, 45));
    assert_eq!(events[1].status(&bytes), Some(Status::Transaction));
}

#[test]
fn a_long_report_is_not_put_together() {
    for (length, kept) in [(CARRIED_MAX, true), (CARRIED_MAX + 1, false)] {
        let bytes = stream(&[Sent { tag: b'E', body: vec![b'x'; length] }]);
        let (told, scanner) = scan(&bytes, &[1000]);
        assert!(scanner.is_between());
        assert_eq!(told[0].body.is_some(), kept, "{length}");
        let (told, _) = scan(&bytes, &[bytes.len()]);
        assert!(told[0].body.is_some(), "it lies in the buffer");
    }
}

#[test]
fn what_no_server_sends_loses_the_stream() {
    let refused = |bytes: &[u8]| {
        let (mut buffer, mut events) = (BytesMut::new(), Vec::new());
        buffer.extend_from_slice(bytes);
        Scanner::new().scan(&buffer, 0, &mut events).unwrap_err()
    };
    assert_eq!(refused(b"Q"), StreamError::FrameType(b'Q'));
    assert_eq!(
        refused(b"H"[..].repeat(5).as_slice()),
        StreamError::FrameLength { tag: b'H', length: i32::from_be_bytes(*b"HHHH") }
    );
    assert_eq!(refused(b"D\0\0\0\x03"), StreamError::FrameLength { tag: b'D', length: 3 });
    assert_eq!(
        refused(b"D\xff\0\0\0"),
        StreamError::FrameLength { tag: b'D', length: -16_777_216 }
    );
    assert_eq!(refused(b"Z\0\0\0\x06II"), StreamError::FrameLength { tag: b'Z', length: 6 });
    assert_eq!(refused(b"Z\0\0\0\x05X"), StreamError::Status(b'X'));
    assert_eq!(refused(b"1\0\0\0\x05X"), StreamError::FrameLength { tag: b'1', length: 5 });
}
