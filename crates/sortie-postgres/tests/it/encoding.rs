//! Frames for clients, byte for byte as the manual lays them out.

use bytes::BytesMut;
use sortie_postgres::backend::{self, DataRow, Field, Report, Severity, Status};

fn check(expected: &[u8], encode: impl FnOnce(&mut BytesMut)) {
    // Not at the front of the buffer: lengths are counted from the frame's own start.
    let mut output = BytesMut::from(&b"before"[..]);
    encode(&mut output);
    assert_eq!(output[6..], *expected);
}

#[test]
fn the_start_of_a_session() {
    check(b"R\0\0\0\x08\0\0\0\0", backend::authentication_ok);
    check(b"S\0\0\0\x11TimeZone\0UTC\0", |out| backend::parameter_status(out, "TimeZone", "UTC"));
    check(b"K\0\0\0\x0c\0\0\0\x07\x01\x02\x03\x04", |out| {
        backend::backend_key_data(out, 7, &[1, 2, 3, 4]);
    });
    check(b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0", |out| {
        backend::negotiate_protocol_version(out, 0, &["_pq_.x"]);
    });
}

#[test]
fn status_of_the_session() {
    check(b"Z\0\0\0\x05I", |out| backend::ready_for_query(out, Status::Idle));
    check(b"Z\0\0\0\x05T", |out| backend::ready_for_query(out, Status::Transaction));
    check(b"Z\0\0\0\x05E", |out| backend::ready_for_query(out, Status::Failed));
}

#[test]
fn descriptions() {
    let field = Field { name: "n", table: 1, column: 2, oid: 20, size: 8, modifier: -1, format: 1 };
    check(b"T\0\0\0\x1a\0\x01n\0\0\0\0\x01\0\x02\0\0\0\x14\0\x08\xff\xff\xff\xff\0\x01", |out| {
        backend::row_description(out, [field].into_iter());
    });
    check(b"t\0\0\0\x0e\0\x02\0\0\0\x14\0\0\0\x19", |out| {
        backend::parameter_description(out, [20, 25].into_iter());
    });
    check(b"n\0\0\0\x04", backend::no_data);
}

#[test]
fn rows_and_ends() {
    check(b"D\0\0\0\x0f\0\x02\0\0\0\x01x\xff\xff\xff\xff", |out| {
        let mut row = DataRow::begin(out);
        row.value(b"x");
        row.null();
        row.finish();
    });
    check(b"D\0\0\0\x06\0\0", |out| DataRow::begin(out).finish());
    check(b"C\0\0\0\x0dSELECT 1\0", |out| backend::command_complete(out, "SELECT 1"));
    check(b"I\0\0\0\x04", backend::empty_query_response);
    check(b"1\0\0\0\x04", backend::parse_complete);
    check(b"2\0\0\0\x04", backend::bind_complete);
    check(b"3\0\0\0\x04", backend::close_complete);
    check(b"s\0\0\0\x04", backend::portal_suspended);
}

#[test]
fn reports_carry_their_fields() {
    let report = Report {
        severity: Severity::Error,
        code: "42601",
        message: "syntax error",
        detail: Some("d"),
        hint: Some("h"),
        position: Some(12),
    };
    check(b"E\0\0\0\x32SERROR\0VERROR\0C42601\0Msyntax error\0Dd\0Hh\0P12\0\0", |out| {
        backend::error_response(out, &report);
    });
    let bare = Report {
        severity: Severity::Warning,
        code: "25P01",
        message: "w",
        detail: None,
        hint: None,
        position: None,
    };
    check(b"N\0\0\0\x21SWARNING\0VWARNING\0C25P01\0Mw\0\0", |out| {
        backend::notice_response(out, &bare);
    });
}

#[test]
fn a_zero_byte_ends_a_text_and_not_the_frame() {
    check(b"C\0\0\0\x06a\0", |out| backend::command_complete(out, "a\0b"));
}
