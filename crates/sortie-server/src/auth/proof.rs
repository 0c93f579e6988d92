//! What a client has proved itself with.

use sortie_postgres::ScramKeys;

/// Who a client is, and how that is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Proof {
    /// It is who it says: nobody has asked.
    #[default]
    Unasked,
    /// Its certificate says so.
    Certificate,
    /// It knows the password of which these keys were made.
    Keys(ScramKeys),
}

impl Proof {
    /// The keys that log in as that client wherever it has the same secret.
    pub(crate) fn keys(self) -> Option<ScramKeys> {
        match self {
            Self::Keys(keys) => Some(keys),
            Self::Unasked | Self::Certificate => None,
        }
    }

    /// Whether it has proved who it is.
    pub(crate) fn is_given(self) -> bool {
        !matches!(self, Self::Unasked)
    }
}
