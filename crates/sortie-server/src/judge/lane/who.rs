//! Who asks for a read that many may share, as its key and its connection have it.
//!
//! What the session has set may be harmless in itself and still change what comes, because a role
//! or a database may have another default: a server that is not told follows that. So of what
//! makes statements fail, or says what is sent with an answer, the server is told.

use std::borrow::Cow;
use std::sync::Arc;

use super::Lane;
use crate::read::Who;
use crate::relay;
use crate::sql::Settings;

impl Lane {
    /// What an answer depends on, of what the session has set.
    pub(super) fn who(&self, who: &relay::Who) -> Who {
        let settings = who.parameters.iter().filter_map(|(name, value)| {
            Some((Cow::Owned(name.to_string()), decisive(name, value)?.into()))
        });
        Who {
            database: Arc::clone(&self.database),
            user: Arc::from(&*who.user),
            credential: who.credential.clone(),
            settings: settings.collect(),
        }
    }
}

/// What a server is told of a parameter, if it is told of it.
fn decisive<'a>(name: &str, value: &'a str) -> Option<&'a str> {
    match name {
        // Each reader's own, and kept here: those who have set it share, whatever to.
        "statement_timeout" if Settings::is_timeout(value) => Some("0"),
        "statement_timeout" | "lock_timeout" | "client_min_messages" => Some(value),
        name => (!Settings::is_harmless(name)).then_some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::decisive;

    #[test]
    fn a_server_is_told_what_fails_statements_and_keeps_no_time_that_is_kept_here() {
        for (name, value, told) in [
            ("statement_timeout", "0", Some("0")),
            ("statement_timeout", "300ms", Some("0")),
            ("statement_timeout", "1.5s", Some("1.5s")),
            ("lock_timeout", "5s", Some("5s")),
            ("client_min_messages", "warning", Some("warning")),
            ("work_mem", "64MB", None),
            ("application_name", "x", None),
            ("timezone", "UTC", Some("UTC")),
        ] {
            assert_eq!(decisive(name, value), told, "{name} = {value}");
        }
    }
}
