//! Frames in words.

use bytes::{Buf, Bytes};

use super::transcript::Event;
use crate::wire::Frame;

/// Longer lines say only how long they are.
const SHOWN_MAX: usize = 240;

/// One event on one line.
pub(super) fn show(event: &Event) -> String {
    let line = match event {
        Event::Frame(frame) => format!("{} {}", name(frame.tag), body(frame)),
        Event::Torn(bytes) => format!("torn frame: {}", bytes.escape_ascii()),
        Event::Closed => "the connection was closed".to_owned(),
        Event::Neighbour(said) => format!("a neighbour was answered wrongly: {said}"),
        Event::Silence(awaited) => format!("silence, while waiting for {awaited}"),
    };
    if line.len() <= SHOWN_MAX {
        return line.trim_end().to_owned();
    }
    let start: String = line.chars().take(SHOWN_MAX).collect();
    format!("{start}… ({} bytes)", line.len())
}

fn name(tag: u8) -> String {
    let name = match tag {
        b'1' => "ParseComplete",
        b'2' => "BindComplete",
        b'3' => "CloseComplete",
        b'A' => "NotificationResponse",
        b'C' => "CommandComplete",
        b'c' => "CopyDone",
        b'D' => "DataRow",
        b'd' => "CopyData",
        b'E' => "ErrorResponse",
        b'G' => "CopyInResponse",
        b'H' => "CopyOutResponse",
        b'I' => "EmptyQueryResponse",
        b'K' => "BackendKeyData",
        b'N' => "NoticeResponse",
        b'n' => "NoData",
        b'R' => "Authentication",
        b'S' => "ParameterStatus",
        b's' => "PortalSuspended",
        b'T' => "RowDescription",
        b't' => "ParameterDescription",
        b'V' => "FunctionCallResponse",
        b'v' => "NegotiateProtocolVersion",
        b'Z' => "ReadyForQuery",
        other => return format!("{:?}", char::from(other)),
    };
    name.to_owned()
}

fn body(frame: &Frame) -> String {
    match frame.tag {
        b'D' => row(frame.body.clone()).unwrap_or_else(|| escaped(&frame.body)),
        b'E' | b'N' => {
            let fields = frame.body.split(|byte| *byte == 0).filter(|field| !field.is_empty());
            let fields = fields.map(|field| {
                format!("{}={}", char::from(field[0]), String::from_utf8_lossy(&field[1..]))
            });
            fields.collect::<Vec<_>>().join(" ")
        }
        b'T' => columns(frame.body.clone()).unwrap_or_else(|| escaped(&frame.body)),
        _ => escaped(&frame.body),
    }
}

fn escaped(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(SHOWN_MAX)].escape_ascii().to_string()
}

fn row(mut body: Bytes) -> Option<String> {
    let mut values = Vec::new();
    for _ in 0..body.try_get_u16().ok()? {
        let length = body.try_get_i32().ok()?;
        values.push(match usize::try_from(length) {
            Err(_) => "NULL".to_owned(),
            Ok(length) if length <= body.len() => escaped(&body.split_to(length)),
            Ok(_) => return None,
        });
    }
    Some(format!("[{}]", values.join(", ")))
}

fn columns(mut body: Bytes) -> Option<String> {
    let mut columns = Vec::new();
    for _ in 0..body.try_get_u16().ok()? {
        let end = body.iter().position(|byte| *byte == 0)?;
        let name = String::from_utf8_lossy(&body.split_to(end)).into_owned();
        body.try_get_u8().ok()?;
        let (table, column) = (body.try_get_u32().ok()?, body.try_get_u16().ok()?);
        let (kind, size) = (body.try_get_u32().ok()?, body.try_get_i16().ok()?);
        let (modifier, format) = (body.try_get_i32().ok()?, body.try_get_i16().ok()?);
        columns.push(format!("{name}({table}.{column} {kind}/{size}/{modifier} f{format})"));
    }
    Some(columns.join(", "))
}
