//! Frames from clients, right and wrong.

use bytes::{BufMut, Bytes, BytesMut};
use sortie_postgres::{Bind, Frame, Frontend, ProtocolError, Startup, Target};

const FRAME_MAX: usize = 20_000;

/// Sends a type byte and a body, with the length that belongs between them.
fn check(frame: &[u8], expected: &Result<Frontend, ProtocolError>) {
    let (&tag, body) = frame.split_first().unwrap();
    let mut buffer = BytesMut::from(&[tag][..]);
    buffer.put_u32(u32::try_from(body.len()).unwrap() + 4);
    buffer.put_slice(body);
    let frame = Frame::decode(&mut buffer, FRAME_MAX).unwrap().expect("a complete frame");
    assert_eq!(frame.message(), *expected, "{body:?}");
    assert!(buffer.is_empty());
}

fn check_lost(bytes: &[u8], expected: ProtocolError) {
    let mut buffer = BytesMut::from(bytes);
    assert_eq!(Frame::decode(&mut buffer, FRAME_MAX), Err(expected), "{bytes:?}");
}

fn check_startup(bytes: &[u8], expected: Result<Startup, ProtocolError>) {
    let mut buffer = BytesMut::from(bytes);
    assert_eq!(Startup::decode(&mut buffer), expected.map(Some), "{bytes:?}");
}

#[test]
fn a_bind_is_taken_apart() {
    let frame = b"Bp\0s\0\0\x02\0\0\0\x01\0\x03\0\0\0\x02hi\xff\xff\xff\xff\0\0\0\0\0\x01\0\x01";
    check(
        frame,
        &Ok(Frontend::Bind(Bind {
            portal: Bytes::from_static(b"p"),
            statement: Bytes::from_static(b"s"),
            formats: vec![0, 1],
            values: vec![Some(Bytes::from_static(b"hi")), None, Some(Bytes::new())],
            result_formats: vec![1],
        })),
    );
}

#[test]
fn a_parse_is_taken_apart() {
    check(
        b"Ps\0SELECT $1\0\0\x01\0\0\0\x14",
        &Ok(Frontend::Parse {
            statement: Bytes::from_static(b"s"),
            text: Bytes::from_static(b"SELECT $1"),
            oids: vec![20],
        }),
    );
}

#[test]
fn short_messages_are_taken_apart() {
    let name = Bytes::from_static(b"n");
    check(b"H", &Ok(Frontend::Flush));
    check(b"X", &Ok(Frontend::Terminate));
    check(b"c", &Ok(Frontend::CopyDone));
    check(b"fn\0", &Ok(Frontend::CopyFail { reason: name.clone() }));
    check(b"dn", &Ok(Frontend::CopyData(name.clone())));
    check(b"pn", &Ok(Frontend::Password(name.clone())));
    check(b"Fn", &Ok(Frontend::FunctionCall(name.clone())));
    check(b"DPn\0", &Ok(Frontend::Describe { target: Target::Portal, name: name.clone() }));
    check(b"En\0\0\0\0\x05", &Ok(Frontend::Execute { portal: name, rows_max: 5 }));
}

#[test]
fn a_broken_body_costs_one_frame() {
    check(b"Qhi", &Err(ProtocolError::Text));
    check(b"Qh\0i", &Err(ProtocolError::Trailing));
    check(b"Sx", &Err(ProtocolError::Trailing));
    check(b"En\0", &Err(ProtocolError::Short));
    check(b"Dxn", &Err(ProtocolError::DescribeTarget(b'x')));
    check(b"Cxn", &Err(ProtocolError::CloseTarget(b'x')));
    // 65,535 parameter types are promised, none is there.
    check(b"P\0\0\xff\xff", &Err(ProtocolError::Short));
    // A parameter's length is below -1, and beyond the body.
    check(b"B\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0", &Err(ProtocolError::Short));
    check(b"B\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0", &Err(ProtocolError::Short));
}

#[test]
fn an_absurd_header_loses_the_stream() {
    check_lost(b"Q\xff\xff\xff\xff", ProtocolError::FrameLength);
    check_lost(b"Q\x7f\xff\xff\xff", ProtocolError::FrameLength);
    check_lost(b"Q\0\0\0\x03", ProtocolError::FrameLength);
    check_lost(b"Q\0\0\x4e\x21", ProtocolError::FrameLength); // 20,001
    check_lost(b"S\0\0\x27\x11", ProtocolError::FrameLength); // 10,001, and Sync is small
    check_lost(b"\x16\x03\x01", ProtocolError::FrameType(0x16)); // TLS without being asked for
    check_lost(b"G", ProtocolError::FrameType(b'G'));
    assert_eq!(ProtocolError::FrameLength.sqlstate(), "08P01");
    assert_eq!(ProtocolError::Version { major: 2, minor: 0 }.sqlstate(), "0A000");
}

#[test]
fn startup_packets_are_told_apart() {
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    check_startup(b"\0\0\0\x08\x04\xd2\x16\x2f", Ok(Startup::Tls));
    check_startup(b"\0\0\0\x08\x04\xd2\x16\x30", Ok(Startup::Gss));
    let secret = Bytes::from_static(b"\x01\x02\x03\x04");
    check_startup(
        b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\x01\x02\x03\x04",
        Ok(Startup::Cancel { process: 7, secret }),
    );
    check_startup(
        b"\0\0\0\x19\0\x03\0\x02user\0al\0_pq_.x\0\0\0",
        Ok(Startup::Session {
            minor: 2,
            parameters: vec![(text("user"), text("al")), (text("_pq_.x"), text(""))],
        }),
    );
}

#[test]
fn broken_startup_packets_are_refused() {
    check_startup(b"\0\0\0\x07", Err(ProtocolError::StartupLength));
    check_startup(b"\0\0\x27\x15", Err(ProtocolError::StartupLength)); // 10,005
    check_startup(b"GET /", Err(ProtocolError::StartupLength));
    check_startup(b"\0\0\0\x09\0\x03\0\0x", Err(ProtocolError::StartupLayout));
    check_startup(b"\0\0\0\x0a\0\x03\0\0\0\0", Err(ProtocolError::StartupLayout));
    check_startup(b"\0\0\0\x08\0\x02\0\0", Err(ProtocolError::Version { major: 2, minor: 0 }));
    check_startup(b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\x07", Err(ProtocolError::CancelLength));
    let mut long = vec![0, 0, 1, 13, 4, 0xd2, 0x16, 0x2e];
    long.resize(269, 0);
    check_startup(&long, Err(ProtocolError::CancelLength)); // A secret of 257 bytes.
}

#[test]
fn payloads_are_slices_of_the_read_buffer() {
    let mut buffer = BytesMut::from(&b"Q\0\0\0\x0dSELECT 1\0"[..]);
    let text_at = buffer[5..].as_ptr();
    let frame = Frame::decode(&mut buffer, FRAME_MAX).unwrap().unwrap();
    let Frontend::Query { text } = frame.message().unwrap() else { panic!("a query") };
    assert_eq!(text.as_ptr(), text_at);
}
