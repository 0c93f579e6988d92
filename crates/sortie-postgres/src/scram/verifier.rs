//! What is kept of a password.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postgres_protocol::password::scram_sha_256;
use ring::hmac;

/// How a secret of this kind begins in `pg_authid`.
const SCHEME: &str = "SCRAM-SHA-256";

/// The longest salt that is read, in bytes.
const SALT_MAX: usize = 1024;

/// What PostgreSQL makes, in bytes.
const SALT_LEN: usize = 16;

/// What is kept of a password: enough to check a proof, not enough to make one.
///
/// It is written as in PostgreSQL's `pg_authid.rolpassword`,
/// `SCRAM-SHA-256$4096:SALT$STOREDKEY:SERVERKEY`, so that one may be copied from there. It is a
/// secret all the same: [`Display`](fmt::Display) writes it, [`Debug`] does not.
///
/// # Examples
///
/// ```
/// use sortie_postgres::ScramVerifier;
///
/// let verifier = ScramVerifier::of_password("s3cret");
/// let line = verifier.to_string();
/// assert!(line.starts_with("SCRAM-SHA-256$4096:"));
/// assert_eq!(line.parse(), Ok(verifier));
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct ScramVerifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    /// RFC 5802's `StoredKey`.
    pub(super) stored: [u8; 32],
    /// RFC 5802's `ServerKey`.
    pub(super) server: [u8; 32],
}

/// Why a text is no verifier. It quotes nothing: the text may be a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum VerifierError {
    /// It does not begin as a SCRAM-SHA-256 secret does.
    Scheme,
    /// It begins so, and goes on otherwise.
    Layout,
}

impl ScramVerifier {
    /// How often a password is hashed where nobody says otherwise.
    pub const ITERATIONS: u32 = 4096;

    /// Makes one of a password, with a new salt.
    ///
    /// # Panics
    ///
    /// Panics if the system has no random numbers.
    pub fn of_password(password: &str) -> Self {
        scram_sha_256(password.as_bytes()).parse().expect("it is written as it is read")
    }

    /// How often the password is hashed.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }
}

/// Makes verifiers up, for names that nobody has: no proof fits them, and the one of a name is
/// always the same, as real ones are. So nobody finds out which names there are.
///
/// # Examples
///
/// ```
/// use sortie_postgres::ScramDecoys;
///
/// let decoys = ScramDecoys::new(b"what nobody else knows", 4096);
/// assert_eq!(decoys.verifier("alice"), decoys.verifier("alice"));
/// assert_ne!(decoys.verifier("alice"), decoys.verifier("bob"));
/// ```
#[derive(Clone, Debug)]
pub struct ScramDecoys {
    key: hmac::Key,
    iterations: u32,
}

impl ScramDecoys {
    /// `secret` makes the salts unpredictable, and the same after a restart if it is;
    /// `iterations` are best those of the real ones.
    pub fn new(secret: &[u8], iterations: u32) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), iterations }
    }

    /// The verifier that is made up for a name.
    ///
    /// # Panics
    ///
    /// It does not: SHA-256 has 32 bytes.
    pub fn verifier(&self, name: &str) -> ScramVerifier {
        let derived = |what: &str| -> [u8; 32] {
            let tag = hmac::sign(&self.key, format!("{what} of {name}").as_bytes());
            tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
        };
        ScramVerifier {
            iterations: self.iterations,
            salt: derived("salt")[..SALT_LEN].to_vec(),
            stored: derived("stored key"),
            server: derived("server key"),
        }
    }
}

impl FromStr for ScramVerifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let (scheme, rest) = text.split_once('$').ok_or(VerifierError::Scheme)?;
        if scheme != SCHEME {
            return Err(VerifierError::Scheme);
        }
        let read = || {
            let (work, keys) = rest.split_once('$')?;
            let (iterations, salt) = work.split_once(':')?;
            let (stored, server) = keys.split_once(':')?;
            let salt = STANDARD.decode(salt).ok()?;
            let iterations = iterations.parse().ok().filter(|count| *count > 0)?;
            let is_salt = (1..=SALT_MAX).contains(&salt.len());
            let key = |text: &str| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
            is_salt.then_some(Self { iterations, salt, stored: key(stored)?, server: key(server)? })
        };
        read().ok_or(VerifierError::Layout)
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored, &self.server].map(|bytes| STANDARD.encode(bytes));
        write!(f, "{SCHEME}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(..)")
    }
}

impl std::error::Error for VerifierError {}

impl fmt::Display for VerifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "it is no SCRAM-SHA-256 secret",
            Self::Layout => "a SCRAM-SHA-256 secret is `SCRAM-SHA-256$4096:SALT$KEY:KEY`",
        })
    }
}
