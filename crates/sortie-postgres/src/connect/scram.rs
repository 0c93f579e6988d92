//! SCRAM-SHA-256 (RFC 5802, RFC 7677), with a password or with the role's keys in its place.
//!
//! Logins with a password are `postgres-protocol`'s. With the keys the talk is the same, less the
//! salt and the iterations that make keys of a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::error::ConnectCause;
use crate::conninfo::{Credential, ScramKeys};

/// How the talk is bound to the connection below it.
#[derive(Clone, Debug)]
pub(super) enum Channel {
    /// It is not: nothing to bind to, or not wanted.
    Unsupported,
    /// It could be, and the server does not offer it.
    NotOffered,
    /// To the server's certificate.
    Bound(Vec<u8>),
}

/// A talk under way.
pub(super) enum Scram {
    Password(Box<ScramSha256>),
    Keys(Box<Keyed>),
}

/// A talk of somebody who has the keys.
pub(super) struct Keyed {
    keys: ScramKeys,
    channel: Channel,
    first_bare: String,
    auth_message: String,
}

impl Channel {
    /// The name of the mechanism that binds so.
    pub(super) fn mechanism(&self) -> &'static str {
        match self {
            Self::Bound(_) => SCRAM_SHA_256_PLUS,
            Self::Unsupported | Self::NotOffered => SCRAM_SHA_256,
        }
    }

    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::NotOffered => "y,,",
            Self::Bound(_) => "p=tls-server-end-point,,",
        }
    }
}

impl From<Channel> for ChannelBinding {
    fn from(channel: Channel) -> Self {
        match channel {
            Channel::Unsupported => Self::unsupported(),
            Channel::NotOffered => Self::unrequested(),
            Channel::Bound(data) => Self::tls_server_end_point(data),
        }
    }
}

impl Scram {
    /// Begins a talk; the message opens it.
    pub(super) fn begin(
        credential: &Credential,
        channel: Channel,
    ) -> Result<(Self, Vec<u8>), ConnectCause> {
        match credential {
            Credential::Password(password) => {
                let scram = ScramSha256::new(password.as_bytes(), channel.into());
                let message = scram.message().to_vec();
                Ok((Self::Password(Box::new(scram)), message))
            }
            Credential::ScramKeys(keys) => {
                let begun = Keyed::begin(**keys, channel).map_err(ConnectCause::Login)?;
                Ok((Self::Keys(Box::new(begun.0)), begun.1.into_bytes()))
            }
            other => Err(ConnectCause::Credential {
                wanted: "a password by SCRAM-SHA-256",
                given: other.kind(),
            }),
        }
    }

    /// Answers the server's first message.
    pub(super) fn prove(&mut self, server_first: &[u8]) -> Result<Vec<u8>, ConnectCause> {
        let proved = match self {
            Self::Password(scram) => scram
                .update(server_first)
                .map(|()| scram.message().to_vec())
                .map_err(|error| error.to_string()),
            Self::Keys(keyed) => keyed.prove(server_first).map(String::into_bytes),
        };
        proved.map_err(ConnectCause::Login)
    }

    /// Checks that the server knows the role's secret, too.
    pub(super) fn check(&mut self, server_final: &[u8]) -> Result<(), ConnectCause> {
        let checked = match self {
            Self::Password(scram) => scram.finish(server_final).map_err(|error| error.to_string()),
            Self::Keys(keyed) => keyed.check(server_final),
        };
        checked.map_err(ConnectCause::Login)
    }
}

impl Keyed {
    fn begin(keys: ScramKeys, channel: Channel) -> Result<(Self, String), String> {
        let mut nonce = [0; 18];
        let filled = SystemRandom::new().fill(&mut nonce);
        filled.map_err(|_unspecified| "the system has no random numbers".to_owned())?;
        // The role's name is in the startup packet; PostgreSQL reads it there.
        let first_bare = format!("n=,r={}", STANDARD.encode(nonce));
        let message = format!("{}{first_bare}", channel.header());
        Ok((Self { keys, channel, first_bare, auth_message: String::new() }, message))
    }

    fn prove(&mut self, server_first: &[u8]) -> Result<String, String> {
        let wrong = || "the server's first SCRAM message can't be read".to_owned();
        let server_first = std::str::from_utf8(server_first).map_err(|_not_text| wrong())?;
        let nonce = server_first.split(',').find_map(|field| field.strip_prefix("r="));
        let nonce = nonce.ok_or_else(wrong)?;
        let ours = self.first_bare.strip_prefix("n=,r=").expect("it was begun so");
        if nonce.len() <= ours.len() || !nonce.starts_with(ours) {
            return Err("the server's SCRAM nonce does not go on from ours".to_owned());
        }
        let mut bound = self.channel.header().as_bytes().to_vec();
        if let Channel::Bound(data) = &self.channel {
            bound.extend_from_slice(data);
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(bound));
        self.auth_message = format!("{},{server_first},{without_proof}", self.first_bare);

        let stored = digest(&SHA256, &self.keys.client);
        let key = hmac::Key::new(hmac::HMAC_SHA256, stored.as_ref());
        let signature = hmac::sign(&key, self.auth_message.as_bytes());
        let mut proof = self.keys.client;
        for (byte, mask) in proof.iter_mut().zip(signature.as_ref()) {
            *byte ^= mask;
        }
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    fn check(&self, server_final: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(server_final).unwrap_or_default();
        if let Some(error) = text.strip_prefix("e=") {
            return Err(format!("the server ended SCRAM with {error:?}"));
        }
        let signature = text.strip_prefix("v=").and_then(|rest| rest.split(',').next());
        let signature = STANDARD.decode(signature.unwrap_or_default()).unwrap_or_default();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.keys.server);
        hmac::verify(&key, self.auth_message.as_bytes(), &signature).map_err(|_unspecified| {
            "the server could not prove that it knows the role's secret".to_owned()
        })
    }
}
