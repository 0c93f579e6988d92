//! The switches of sortie's own: which lane a statement may take.
//!
//! | switch | values | where |
//! |---|---|---|
//! | `sortie.lane` | `auto`, `pipe` | cluster and user (`mode`), connection, statement |
//! | `sortie.share` | `on`, `off` | connection, statement |
//! | `sortie.shard` | a shard's number, `all` | connection |
//! | `sortie.join` | `fresh`, `running` | cluster, user, connection, transaction, statement |
//! | `sortie.max_join_age` | a duration, `off` | as `sortie.join` |
//! | `sortie.floor`, `sortie.max_lag` | `off` | refused, but for that |
//!
//! For a connection: `SET sortie.lane = pipe`, or at its start the parameter of that name, or
//! `options=-c sortie.lane=pipe`. For a transaction: `SET LOCAL`. For a statement: a comment
//! `/* sortie: lane=pipe share=off */`.
//! What is said nearer to the statement wins.

use std::time::Duration;

use sortie_postgres::Lsn;

use super::hints::hinted;
use crate::config::{Joining, UserConfig};
use crate::said::duration;
use crate::sql::{Lexeme, Settings, SqlError, Token, lex, state, utf8};

/// What was said by a connection, or a statement.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Switches {
    /// Whether everything takes the pipe lane.
    pub(crate) pipe: Option<bool>,
    /// Whether statements are shared.
    pub(crate) share: Option<bool>,
    /// Which shards the session asks.
    pub(crate) shard: Option<Shards>,
    /// Which loads a read shares.
    pub(crate) join: Option<Joining>,
    /// How long ago such a load may have begun.
    pub(crate) max_join_age: Option<JoinAge>,
}

/// How long ago a load may have begun that is shared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum JoinAge {
    Any,
    AtMost(Duration),
}

/// Which shards a session asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shards {
    All,
    /// It is bound to this one.
    One(usize),
}

impl Shards {
    /// The one that the session is bound to.
    pub(crate) fn one(self) -> Option<usize> {
        match self {
            Self::All => None,
            Self::One(shard) => Some(shard),
        }
    }
}

impl Switches {
    /// What the configuration says of a role.
    pub(super) fn of(user: &UserConfig) -> Self {
        let age = user.max_join_age.map_or(JoinAge::Any, JoinAge::AtMost);
        Self { join: Some(user.join), max_join_age: Some(age), ..Self::default() }
    }

    /// Sets a switch, by its whole name, or resets it without a value.
    ///
    /// # Errors
    ///
    /// 42704 for a switch that does not exist, 22023 for a value that it can't have.
    pub(crate) fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
        shards: usize,
    ) -> Result<(), SqlError> {
        let lower = value.map(str::to_ascii_lowercase);
        match (name, lower.as_deref()) {
            ("sortie.lane", None) => self.pipe = None,
            ("sortie.lane", Some("auto")) => self.pipe = Some(false),
            ("sortie.lane", Some("pipe")) => self.pipe = Some(true),
            ("sortie.share", None) => self.share = None,
            ("sortie.share", Some("on" | "true" | "yes" | "1")) => self.share = Some(true),
            ("sortie.share", Some("off" | "false" | "no" | "0")) => self.share = Some(false),
            ("sortie.shard", None) => self.shard = None,
            ("sortie.shard", Some("all")) => self.shard = Some(Shards::All),
            ("sortie.shard", Some(number)) => match number.parse() {
                Ok(shard) if shard < shards => self.shard = Some(Shards::One(shard)),
                _ => return Err(invalid(name, number, &format!("0 to {}, all", shards - 1))),
            },
            ("sortie.join", None) => self.join = None,
            ("sortie.join", Some("fresh")) => self.join = Some(Joining::Fresh),
            ("sortie.join", Some("running")) => self.join = Some(Joining::Running),
            ("sortie.join", Some(value)) => return Err(invalid(name, value, "fresh, running")),
            ("sortie.max_join_age", None) => self.max_join_age = None,
            ("sortie.max_join_age", Some("off")) => self.max_join_age = Some(JoinAge::Any),
            ("sortie.max_join_age", Some(value)) => match duration(value) {
                Ok(age) => self.max_join_age = Some(JoinAge::AtMost(age)),
                Err(_no_duration) => {
                    let values = "a duration above zero with its unit, for example 100ms, or off";
                    return Err(invalid(name, value, values));
                }
            },
            ("sortie.floor" | "sortie.max_lag", None | Some("off")) => {}
            ("sortie.floor" | "sortie.max_lag", Some(value)) => return Err(unserved(name, value)),
            ("sortie.lane", Some(value)) => return Err(invalid(name, value, "auto, pipe")),
            ("sortie.share", Some(value)) => return Err(invalid(name, value, "on, off")),
            _ => {
                let message = format!("unrecognized configuration parameter \"{name}\"");
                return Err(SqlError::new(state::UNDEFINED_OBJECT, message));
            }
        }
        Ok(())
    }

    /// What a comment of a statement says; nothing for one that can't be read.
    pub(crate) fn hint(text: &[u8]) -> Self {
        let mut hint = Self::default();
        let Some(words) = hinted(text) else { return hint };
        for word in words.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()) {
            let Some((name, value)) = word.split_once('=') else { continue };
            if matches!(name, "lane" | "share" | "join" | "max_join_age") {
                // A hint is no statement: one that says nothing known is a comment.
                let _unknown = hint.set(&format!("sortie.{name}"), Some(value), 1);
            }
        }
        hint
    }

    /// The value of a switch, for `SHOW`; `None` if it does not exist.
    pub(crate) fn show(&self, name: &str) -> Option<String> {
        Some(match name {
            "sortie.lane" if self.pipe == Some(true) => "pipe".into(),
            "sortie.lane" => "auto".into(),
            "sortie.share" if self.share == Some(false) => "off".into(),
            "sortie.share" => "on".into(),
            "sortie.shard" => match self.shard.and_then(Shards::one) {
                Some(shard) => shard.to_string(),
                None => "all".into(),
            },
            "sortie.join" => match self.join {
                Some(Joining::Running) => "running".into(),
                Some(Joining::Fresh) | None => "fresh".into(),
            },
            "sortie.max_join_age" => match self.max_join_age {
                Some(JoinAge::AtMost(age)) => humantime::format_duration(age).to_string(),
                Some(JoinAge::Any) | None => "off".into(),
            },
            "sortie.floor" | "sortie.max_lag" => "off".into(),
            _ => return None,
        })
    }

    /// These, and for what they don't say, `others`.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            pipe: self.pipe.or(others.pipe),
            share: self.share.or(others.share),
            shard: self.shard.or(others.shard),
            join: self.join.or(others.join),
            max_join_age: self.max_join_age.or(others.max_join_age),
        }
    }
}

/// Whether a text would have its session ask another shard, in whatever words.
pub(super) fn sets_shard(text: &[u8]) -> bool {
    const NAME: &str = "sortie.shard";
    // At a glance: the name may be in two pairs of quotes.
    let mentions = |word: &[u8]| text.windows(word.len()).any(|it| it.eq_ignore_ascii_case(word));
    if !mentions(b"sortie") || !mentions(b"shard") {
        return false;
    }
    let Some(lexemes) = utf8(text).ok().and_then(|text| lex(text).ok()) else { return false };
    let is = |token: Option<&Lexeme>, name: &str| match token.map(|it| &it.token) {
        Some(Token::Word(found) | Token::Quoted(found)) => found.eq_ignore_ascii_case(name),
        _ => false,
    };
    // Further names may follow only a SET that sets something else to them.
    let named = (0..lexemes.len()).any(|at| {
        let dot = lexemes.get(at + 1).is_some_and(|it| it.token == Token::Punctuation("."));
        let sets = at > 0
            && ["set", "reset", "local", "session"].iter().any(|it| is(lexemes.get(at - 1), it));
        // One pair of quotes around it all is the same name to PostgreSQL.
        let apart = dot && is(lexemes.get(at), "sortie") && is(lexemes.get(at + 2), "shard");
        sets && (apart || is(lexemes.get(at), NAME))
    });
    let called = lexemes.iter().any(|it| is(Some(it), "set_config"))
        && lexemes.iter().any(|it| match &it.token {
            Token::String(text) => text.eq_ignore_ascii_case(NAME),
            _ => false,
        });
    named || called
}

fn invalid(name: &str, value: &str, values: &str) -> SqlError {
    let message = format!("invalid value for parameter \"{name}\": \"{value}\"");
    let mut error = SqlError::new(state::INVALID_PARAMETER_VALUE, message);
    error.hint = Some(format!("Available values: {values}."));
    error
}

/// A switch that is known, and does not work yet.
fn unserved(name: &str, value: &str) -> SqlError {
    let (what, right) = match name {
        "sortie.floor" => ("a floor from another connection", value.parse::<Lsn>().is_ok()),
        _ => ("a limit to the replicas' lag", duration(value).is_ok()),
    };
    if !right {
        let values = match name {
            "sortie.floor" => "a place in the log, as in 16/B374D848, or off",
            _ => "a duration above zero with its unit, for example 1s, or off",
        };
        return invalid(name, value, values);
    }
    let mut error = SqlError::unsupported(format!("{name}: {what} is not served yet"));
    error.hint = Some(
        "A session reads nothing older than what it has written or read itself; whoever must see \
         what another one has written asks the primary."
            .to_owned(),
    );
    error
}

/// The switches in `options` of a startup packet, and the options that remain.
///
/// # Errors
///
/// As [`Switches::set`].
pub(crate) fn from_options(
    options: &str,
    switches: &mut Switches,
    shards: usize,
) -> Result<String, SqlError> {
    let mut rest: Vec<&str> = Vec::new();
    let mut words = Settings::words(options).peekable();
    while let Some((raw, word)) = words.next() {
        let assignment = match &*word {
            "-c" => words.peek().map(|(_, next)| &**next),
            word => word.strip_prefix("-c").or_else(|| word.strip_prefix("--")),
        };
        match assignment.and_then(|it| it.split_once('=')) {
            Some((name, value)) if name.starts_with("sortie.") => {
                switches.set(name, Some(value), shards)?;
                if word == "-c" {
                    words.next();
                }
            }
            // With its backslashes.
            _ => rest.push(raw),
        }
    }
    Ok(rest.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_set_shown_and_reset() {
        let mut switches = Switches::default();
        for (name, value) in [
            ("lane", "pipe"),
            ("share", "off"),
            ("shard", "1"),
            ("join", "running"),
            ("max_join_age", "1m 30s"),
            ("floor", "off"),
            ("max_lag", "off"),
        ] {
            let name = format!("sortie.{name}");
            switches.set(&name, Some(value), 2).unwrap();
            assert_eq!(switches.show(&name).as_deref(), Some(value));
            switches.set(&name, None, 2).unwrap();
        }
        assert_eq!(switches, Switches::default());
        let error = switches.set("sortie.shard", Some("2"), 2).unwrap_err();
        assert_eq!(error.code, "22023");
        assert_eq!(switches.set("sortie.nope", Some("2"), 2).unwrap_err().code, "42704");
        for (name, value, code) in [
            ("join", "stale", "22023"),
            ("max_join_age", "100", "22023"),
            ("max_join_age", "0s", "22023"),
            ("floor", "1s", "22023"),
            ("floor", "16/B374D848", "0A000"),
            ("max_lag", "16/B374D848", "22023"),
            ("max_lag", "1s", "0A000"),
        ] {
            let error = switches.set(&format!("sortie.{name}"), Some(value), 1).unwrap_err();
            assert_eq!((error.code, error.hint.is_some()), (code, true), "{name} = {value}");
        }
        assert_eq!(switches, Switches::default());
        assert_eq!(switches.show("sortie.nope"), None);
    }

    #[test]
    fn a_shard_is_set_in_many_words() {
        for text in [
            "set sortie.shard = 1",
            "SET SESSION \"sortie\".\"Shard\" TO '0'",
            "begin; set local sortie.shard = 1; commit",
            "/* x */ reset Sortie.Shard",
            "begin; set local \"Sortie.shard\" to 1; commit",
            "RESET \"sortie.shard\"",
            "select 1, set_config('Sortie.shard', '0', false)",
        ] {
            assert!(sets_shard(text.as_bytes()), "{text}");
        }
        for text in [
            "show sortie.shard",
            "select 'set sortie.shard = 1'",
            "select current_setting('sortie.shard')",
            "set sortie.lane = pipe -- not sortie.shard",
            "select s.sortie.shard from s",
            "update t set \"sortie\" = 1, shard = 2",
            "set \"sortie.shard.x\" = 1",
        ] {
            assert!(!sets_shard(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn options_of_the_start_are_told_apart() {
        let mut switches = Switches::default();
        let options = "-c sortie.lane=pipe -c work_mem=1MB --sortie.share=off -csortie.shard=0 \
                       -c sortie.join=running -c sortie.max_join_age=50ms\\ 50ms -c a.b=\\\t\\\\";
        let rest = from_options(options, &mut switches, 1).unwrap();
        assert_eq!(rest, "-c work_mem=1MB -c a.b=\\\t\\\\");
        assert_eq!(
            switches,
            Switches {
                pipe: Some(true),
                share: Some(false),
                shard: Some(Shards::One(0)),
                join: Some(Joining::Running),
                max_join_age: Some(JoinAge::AtMost(Duration::from_millis(100))),
            }
        );
    }
}
