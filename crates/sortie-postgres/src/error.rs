//! What can be wrong with bytes from a client.

use std::error::Error;
use std::fmt;

/// Why bytes are not the protocol. The texts are those of a PostgreSQL server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The type byte of a frame is none that a client may send.
    FrameType(u8),
    /// A frame's length is below four, or above the limit for its type.
    FrameLength,
    /// The length of a startup packet is outside PostgreSQL's limits.
    StartupLength,
    /// A startup packet's parameters do not end with the empty name.
    StartupLayout,
    /// A `CancelRequest` has no key, or one that is too long.
    CancelLength,
    /// The client asks for a major version that is not 3.
    Version {
        /// The major version asked for.
        major: u16,
        /// The minor version asked for.
        minor: u16,
    },
    /// A body ends before its last field does.
    Short,
    /// A string has no terminator.
    Text,
    /// A body goes on after its last field.
    Trailing,
    /// The subject of a Describe is neither a statement nor a portal.
    DescribeTarget(u8),
    /// The subject of a Close is neither a statement nor a portal.
    CloseTarget(u8),
}

impl ProtocolError {
    /// Returns the SQLSTATE that a PostgreSQL server reports this with: 08P01, a protocol
    /// violation, for all but an unknown version.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::Version { .. } => "0A000",
            _ => "08P01",
        }
    }
}

impl Error for ProtocolError {}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameType(tag) => write!(f, "invalid frontend message type {tag}"),
            Self::FrameLength => f.write_str("invalid message length"),
            Self::StartupLength => f.write_str("invalid length of startup packet"),
            Self::StartupLayout => {
                f.write_str("invalid startup packet layout: expected terminator as last byte")
            }
            Self::CancelLength => f.write_str("invalid length of cancel request packet"),
            Self::Version { major, minor } => {
                write!(f, "unsupported frontend protocol {major}.{minor}: server supports 3.0")
            }
            Self::Short => f.write_str("insufficient data left in message"),
            Self::Text => f.write_str("invalid string in message"),
            Self::Trailing => f.write_str("invalid message format"),
            Self::DescribeTarget(byte) => write!(f, "invalid DESCRIBE message subtype {byte}"),
            Self::CloseTarget(byte) => write!(f, "invalid CLOSE message subtype {byte}"),
        }
    }
}
