//! The talk in which a client proves that it knows a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use postgres_protocol::authentication::sasl::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use super::{ScramError, ScramVerifier};
use crate::connect::end_point;
use crate::conninfo::ScramKeys;
use crate::cursor::Cursor;

/// Bytes of a nonce of ours, as many as PostgreSQL's have.
const NONCE_LEN: usize = 18;

/// A talk with a client that has opened it.
#[derive(Debug)]
pub struct ScramServer {
    verifier: ScramVerifier,
    /// What the client must send of the channel, in base 64.
    channel: String,
    nonce: String,
    /// The client's first message without its header, and our answer.
    before: String,
}

/// The mechanisms to offer, the best one first; `bound` where the connection is encrypted with a
/// certificate that a login can be bound to.
pub fn mechanisms(bound: bool) -> &'static [&'static str] {
    if bound { &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256] } else { &[SCRAM_SHA_256] }
}

/// What a login is bound to on a connection that is encrypted with this certificate, in DER.
///
/// `None` where RFC 5929 names no hash: then a login can't be bound.
pub fn tls_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    end_point(certificate)
}

impl ScramServer {
    /// Takes the client's first message, the body of its `SASLInitialResponse`, and returns the
    /// answer to it, for an `AuthenticationSASLContinue`.
    ///
    /// `end_point` is what the connection can be bound to, if it can.
    ///
    /// # Errors
    ///
    /// What is wrong with the message.
    ///
    /// # Panics
    ///
    /// Panics if the system has no random numbers.
    pub fn begin(
        verifier: ScramVerifier,
        end_point: Option<&[u8]>,
        body: &Bytes,
    ) -> Result<(Self, String), ScramError> {
        let mut cursor = Cursor::new(body.clone());
        let short = |_error| ScramError::Malformed("The message is empty.");
        let mechanism = cursor.text().map_err(short)?;
        let length = cursor.i32().map_err(short)?;
        let message = cursor.rest();
        let plus = match &*mechanism {
            b"SCRAM-SHA-256" => false,
            b"SCRAM-SHA-256-PLUS" if end_point.is_some() => true,
            _ => return Err(ScramError::Mechanism),
        };
        if message.is_empty() {
            return Err(ScramError::Malformed("The message is empty."));
        }
        if usize::try_from(length).ok() != Some(message.len()) {
            return Err(ScramError::Malformed("Message length does not match input length."));
        }
        let message = text(&message)?;
        let (header, bare) = header(message)?;
        let mut channel = header.to_owned().into_bytes();
        match (plus, &header[..1]) {
            (true, "p") => channel.extend_from_slice(end_point.unwrap_or_default()),
            (true, _) => {
                return Err(ScramError::Malformed(
                    "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not \
                     include channel binding data.",
                ));
            }
            (false, "p") => {
                return Err(ScramError::Malformed(
                    "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM \
                     message includes channel binding data.",
                ));
            }
            (false, "y") if end_point.is_some() => return Err(ScramError::Downgrade),
            (false, _) => {}
        }
        let nonce = format!("{}{}", client_nonce(bare)?, nonce());
        let salt = STANDARD.encode(&verifier.salt);
        let first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let before = format!("{bare},{first}");
        Ok((Self { verifier, channel: STANDARD.encode(channel), nonce, before }, first))
    }

    /// Takes the client's last message, the body of its `SASLResponse`, and returns our proof, for
    /// an `AuthenticationSASLFinal`, and the keys that log in to servers as this client.
    ///
    /// # Errors
    ///
    /// [`ScramError::WrongPassword`] if the proof is wrong, or what is wrong with the message.
    pub fn finish(self, body: &[u8]) -> Result<(String, ScramKeys), ScramError> {
        let message = text(body)?;
        let malformed = ScramError::Malformed("Garbage found at the end of client-final-message.");
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(malformed)?;
        let mut fields = without_proof.split(',');
        let channel = fields.next().and_then(|field| field.strip_prefix("c="));
        let channel = channel.ok_or(ScramError::Malformed("Attribute \"c\" expected."))?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let nonce = nonce.ok_or(ScramError::Malformed("Attribute \"r\" expected."))?;
        if nonce != self.nonce {
            return Err(ScramError::Invalid("Nonce does not match."));
        }
        if channel != self.channel {
            return Err(ScramError::Binding);
        }
        let proof = STANDARD.decode(proof).ok();
        let proof: Option<[u8; 32]> = proof.and_then(|proof| proof.try_into().ok());
        let mut client =
            proof.ok_or(ScramError::Malformed("Malformed proof in client-final-message."))?;

        let said = format!("{},{without_proof}", self.before);
        let sign =
            |key: &[u8; 32]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), said.as_bytes());
        for (byte, mask) in client.iter_mut().zip(sign(&self.verifier.stored).as_ref()) {
            *byte ^= mask;
        }
        let stored = digest(&SHA256, &client);
        if !bool::from(stored.as_ref().ct_eq(&self.verifier.stored)) {
            return Err(ScramError::WrongPassword);
        }
        let ours = STANDARD.encode(sign(&self.verifier.server));
        Ok((format!("v={ours}"), ScramKeys { client, server: self.verifier.server }))
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    let text = std::str::from_utf8(message).ok().filter(|text| !text.contains('\0'));
    text.ok_or(ScramError::Malformed("Message length does not match input length."))
}

/// The client's first message: its header with the comma behind it, and the rest.
fn header(message: &str) -> Result<(&str, &str), ScramError> {
    let mut commas = message.match_indices(',').map(|(at, _)| at);
    let parts = commas.next().zip(commas.next());
    let (flag_end, header_end) = parts.ok_or(ScramError::Malformed("Comma expected."))?;
    match &message[..flag_end] {
        "n" | "y" | "p=tls-server-end-point" => {}
        other if other.starts_with("p=") => {
            return Err(ScramError::Unsupported("unsupported SCRAM channel-binding type"));
        }
        _ => return Err(ScramError::Malformed("Unexpected channel-binding flag.")),
    }
    if flag_end + 1 != header_end {
        let text = "client uses authorization identity, but it is not supported";
        return Err(ScramError::Unsupported(text));
    }
    Ok(message.split_at(header_end + 1))
}

/// The client's nonce, from its first message without the header: `n=…,r=NONCE`. The role is the
/// startup packet's, as in PostgreSQL, whatever this says.
fn client_nonce(bare: &str) -> Result<&str, ScramError> {
    let mut fields = bare.split(',');
    let user = fields.next().unwrap_or_default();
    if user.starts_with("m=") {
        let text = "client requires an unsupported SCRAM extension";
        return Err(ScramError::Unsupported(text));
    }
    if !user.starts_with("n=") {
        return Err(ScramError::Malformed("Attribute \"n\" expected."));
    }
    let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
    let nonce = nonce.ok_or(ScramError::Malformed("Attribute \"r\" expected."))?;
    if nonce.is_empty() || !nonce.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
        return Err(ScramError::Malformed("Non-printable characters in SCRAM nonce."));
    }
    Ok(nonce)
}

fn nonce() -> String {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).expect("the system has random numbers");
    STANDARD.encode(nonce)
}
