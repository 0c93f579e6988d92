//! Roundtrips and splits, for messages that proptest makes up.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use sortie_postgres::{Bind, Frame, Frontend, Startup, Target};

use crate::any_bytes;

const FRAME_MAX: usize = 1 << 20;

fn text() -> impl Strategy<Value = Bytes> {
    vec(1..=u8::MAX, 0..12).prop_map(Bytes::from)
}

fn body() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![Just(Target::Statement), Just(Target::Portal)]
}

fn bind() -> impl Strategy<Value = Bind> {
    let formats = || vec(any::<i16>(), 0..4);
    (text(), text(), formats(), vec(proptest::option::of(body()), 0..4), formats()).prop_map(
        |(portal, statement, formats, values, result_formats)| Bind {
            portal,
            statement,
            formats,
            values,
            result_formats,
        },
    )
}

fn message() -> impl Strategy<Value = Frontend> {
    prop_oneof![
        text().prop_map(|text| Frontend::Query { text }),
        (text(), text(), vec(any::<u32>(), 0..4))
            .prop_map(|(statement, text, oids)| Frontend::Parse { statement, text, oids }),
        bind().prop_map(Frontend::Bind),
        (target(), text()).prop_map(|(target, name)| Frontend::Describe { target, name }),
        (target(), text()).prop_map(|(target, name)| Frontend::Close { target, name }),
        (text(), any::<i32>())
            .prop_map(|(portal, rows_max)| Frontend::Execute { portal, rows_max }),
        text().prop_map(|reason| Frontend::CopyFail { reason }),
        body().prop_map(Frontend::Password),
        body().prop_map(Frontend::CopyData),
        body().prop_map(Frontend::FunctionCall),
        Just(Frontend::Flush),
        Just(Frontend::Sync),
        Just(Frontend::Terminate),
        Just(Frontend::CopyDone),
    ]
}

fn startup() -> impl Strategy<Value = Startup> {
    let name = vec(1..=u8::MAX, 1..12).prop_map(Bytes::from);
    prop_oneof![
        Just(Startup::Tls),
        Just(Startup::Gss),
        (any::<i32>(), vec(any::<u8>(), 1..=256))
            .prop_map(|(process, secret)| Startup::Cancel { process, secret: secret.into() }),
        (any::<u16>(), vec((name, text()), 0..4))
            .prop_map(|(minor, parameters)| Startup::Session { minor, parameters }),
    ]
}

fn encode(messages: &[Frontend], stream: &mut BytesMut) {
    for message in messages {
        message.encode(stream);
    }
}

fn frames(pieces: &[&[u8]]) -> Vec<Frontend> {
    let (mut buffer, mut out) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(frame) = Frame::decode(&mut buffer, FRAME_MAX).unwrap() {
            out.push(frame.message().unwrap());
        }
    }
    assert!(buffer.is_empty());
    out
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(messages in vec(message(), 1..6)) {
        let mut stream = BytesMut::new();
        encode(&messages, &mut stream);
        prop_assert_eq!(frames(&[&stream]), messages);
    }

    #[test]
    fn a_split_at_any_byte_changes_nothing(messages in vec(message(), 1..4)) {
        let mut stream = BytesMut::new();
        encode(&messages, &mut stream);
        for at in 0..=stream.len() {
            let (head, tail) = stream.split_at(at);
            prop_assert_eq!(&frames(&[head, tail]), &messages);
        }
    }

    #[test]
    fn a_startup_packet_survives_every_split(packet in startup()) {
        let mut stream = BytesMut::new();
        packet.encode(&mut stream);
        let mut buffer = BytesMut::new();
        for (at, &byte) in stream.iter().enumerate() {
            prop_assert_eq!(Startup::decode(&mut buffer).unwrap(), None, "after {} bytes", at);
            buffer.extend_from_slice(&[byte]);
        }
        prop_assert_eq!(Startup::decode(&mut buffer).unwrap(), Some(packet));
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn random_bytes_keep_the_rules(data in vec(any::<u8>(), 0..600)) {
        any_bytes::check(&data);
    }

    #[test]
    fn a_damaged_stream_keeps_the_rules(
        messages in vec(message(), 1..6),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut stream = BytesMut::from(&[byte][..]);
        encode(&messages, &mut stream);
        let at = at.index(stream.len());
        stream[at] = byte;
        any_bytes::check(&stream);
    }
}
