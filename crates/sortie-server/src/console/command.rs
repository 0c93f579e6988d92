//! What can be asked for: one command from its text.

use super::show::Show;
use crate::config::nearest;
use crate::sql::{SqlError, state};

/// A command of the admin database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Command {
    Show(Show),
    Help,
    /// Of one cluster, or of all.
    Pause(Option<String>),
    Resume(Option<String>),
    Reload,
    Kill(Whom),
    /// `now` waits for nobody.
    Shutdown {
        now: bool,
    },
    /// What drivers say about transactions, or parameters of their own: it is only answered.
    Begin,
    Commit,
    Rollback,
    Nothing(&'static str),
}

/// Whose sessions are ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Whom {
    Client(i32),
    Database(String),
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Rank {
    /// Look.
    Watcher,
    /// Everything.
    Admin,
}

/// The first words of commands.
const VERBS: [&str; 6] = ["show", "pause", "resume", "reload", "kill", "shutdown"];

/// Parameters that drivers set on their own.
const PARAMETERS: [&str; 9] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "session",
    "statement_timeout",
    "timezone",
];

impl Command {
    /// Reads one command; `None` is a text that asks for nothing.
    ///
    /// # Errors
    ///
    /// 42601, with what may have been meant.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, SqlError> {
        let words = words(text)?;
        let Some(verb) = words.first() else { return Ok(None) };
        let rest: Vec<&str> = words[1..].iter().map(|word| word.text.as_str()).collect();
        let unknown = |nearest| Err(unknown(text, nearest));
        let target = || match &rest[..] {
            [] => Ok(None),
            [database] => Ok(Some((*database).to_owned())),
            _ => Err(self::unknown(text, Some(format!("{} [DATABASE]", verb.upper())))),
        };
        let command = match (verb.lower().as_str(), &rest[..]) {
            ("show", [what]) if what.eq_ignore_ascii_case("help") => Self::Help,
            ("show", [what]) => {
                let Some(show) = Show::named(what) else {
                    let near = nearest(what, &Show::names());
                    return unknown(near.map(|near| format!("SHOW {}", near.to_uppercase())));
                };
                Self::Show(show)
            }
            ("show", _) => return unknown(Some("SHOW HELP".to_owned())),
            ("pause", _) => Self::Pause(target()?),
            ("resume", _) => Self::Resume(target()?),
            ("reload", []) => Self::Reload,
            ("kill", [whom]) => Self::Kill(Whom::of(whom, words[1].quoted)),
            ("kill", [client, id]) if client.eq_ignore_ascii_case("client") => {
                Self::Kill(Whom::client(id)?)
            }
            ("kill_client", [id]) => Self::Kill(Whom::client(id)?),
            ("kill", _) => return unknown(Some("KILL CLIENT-ID or KILL DATABASE".to_owned())),
            ("shutdown", []) => Self::Shutdown { now: false },
            ("shutdown", [now]) if now.eq_ignore_ascii_case("now") => Self::Shutdown { now: true },
            ("shutdown", _) => return unknown(Some("SHUTDOWN or SHUTDOWN NOW".to_owned())),
            ("begin", _) => Self::Begin,
            ("start", [it, ..]) if it.eq_ignore_ascii_case("transaction") => Self::Begin,
            ("commit" | "end", _) => Self::Commit,
            ("rollback" | "abort", _) => Self::Rollback,
            ("discard", [all]) if all.eq_ignore_ascii_case("all") => Self::Nothing("DISCARD ALL"),
            ("deallocate", _) => Self::Nothing("DEALLOCATE"),
            ("set", [name, ..]) => return set(name).map(Some),
            (verb, _) => {
                return unknown(nearest(verb, &VERBS).map(str::to_uppercase));
            }
        };
        Ok(Some(command))
    }

    /// What one must be to have it done.
    pub(crate) fn needs(&self) -> Rank {
        match self {
            Self::Pause(_)
            | Self::Resume(_)
            | Self::Reload
            | Self::Kill(_)
            | Self::Shutdown { .. } => Rank::Admin,
            Self::Show(_)
            | Self::Help
            | Self::Begin
            | Self::Commit
            | Self::Rollback
            | Self::Nothing(_) => Rank::Watcher,
        }
    }

    /// How the end of it is told.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            Self::Show(_) | Self::Help => "SHOW",
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Reload => "RELOAD",
            Self::Kill(_) => "KILL",
            Self::Shutdown { .. } => "SHUTDOWN",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
            Self::Nothing(tag) => tag,
        }
    }
}

impl Whom {
    /// A number is a client's, unless it stands in quotes.
    fn of(text: &str, quoted: bool) -> Self {
        match text.parse() {
            Ok(id) if !quoted => Self::Client(id),
            _ => Self::Database(text.to_owned()),
        }
    }

    fn client(text: &str) -> Result<Self, SqlError> {
        text.parse().map(Self::Client).map_err(|_error| {
            let message = format!("\"{text}\" is no client's number");
            SqlError::new(state::SYNTAX_ERROR, message).hint("SHOW CLIENTS has them, in column id.")
        })
    }
}

fn set(name: &str) -> Result<Command, SqlError> {
    let name = name.split('=').next().unwrap_or_default();
    if PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Ok(Command::Nothing("SET"));
    }
    let message = format!("\"{name}\" can't be set here");
    Err(SqlError::new(state::FEATURE_NOT_SUPPORTED, message)
        .hint("Settings are in the configuration file: change it, then RELOAD."))
}

fn unknown(text: &str, near: Option<String>) -> SqlError {
    let text = text.trim().trim_end_matches(';');
    let shown: String = text.chars().take(60).collect();
    let near = near.map_or_else(String::new, |near| format!("Did you mean {near}? "));
    let message = format!("invalid command '{shown}', use SHOW HELP;");
    SqlError::new(state::SYNTAX_ERROR, message).hint(format!("{near}SHOW HELP lists all commands."))
}

/// A word, and whether it stood in quotes.
struct Word {
    text: String,
    quoted: bool,
}

impl Word {
    fn lower(&self) -> String {
        if self.quoted { String::new() } else { self.text.to_ascii_lowercase() }
    }

    fn upper(&self) -> String {
        self.text.to_ascii_uppercase()
    }
}

/// The words of one command; what stands in double quotes is one.
fn words(text: &str) -> Result<Vec<Word>, SqlError> {
    let mut words = Vec::new();
    let mut rest = text.trim_matches(|c: char| c.is_whitespace() || c == ';');
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let Some((inside, behind)) = quoted.split_once('"') else {
                let message = "unterminated quoted identifier";
                return Err(SqlError::new(state::SYNTAX_ERROR, message));
            };
            words.push(Word { text: inside.to_owned(), quoted: true });
            rest = behind.trim_start();
            continue;
        }
        let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len());
        words.push(Word { text: rest[..end].to_owned(), quoted: false });
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

/// The commands of a text, one after the other: at semicolons that stand in no quotes.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let (mut pieces, mut from, mut quote) = (Vec::new(), 0, None);
    for (at, letter) in text.char_indices() {
        match (letter, quote) {
            (';', None) => {
                pieces.push(&text[from..at]);
                from = at + 1;
            }
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            _ => {}
        }
    }
    pieces.push(&text[from..]);
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn one(text: &str) -> Command {
        Command::parse(text).unwrap().unwrap()
    }

    #[test]
    fn commands_are_read_in_any_case_and_with_semicolons() {
        for text in ["SHOW POOLS", "show pools;", "  Show\n Pools ; ;", "SHOW \"pools\""] {
            assert_eq!(one(text), Command::Show(Show::Pools), "{text}");
        }
        assert_eq!(one("show help"), Command::Help);
        assert_eq!(one("PAUSE"), Command::Pause(None));
        assert_eq!(one("pause Bank;"), Command::Pause(Some("Bank".to_owned())));
        assert_eq!(one("RESUME \"my bank\""), Command::Resume(Some("my bank".to_owned())));
        assert_eq!(one("KILL 7"), Command::Kill(Whom::Client(7)));
        assert_eq!(one("KILL_CLIENT 7"), Command::Kill(Whom::Client(7)));
        assert_eq!(one("KILL CLIENT 7"), Command::Kill(Whom::Client(7)));
        assert_eq!(one("KILL \"7\""), Command::Kill(Whom::Database("7".to_owned())));
        assert_eq!(one("KILL bank"), Command::Kill(Whom::Database("bank".to_owned())));
        assert_eq!(one("shutdown now"), Command::Shutdown { now: true });
        assert_eq!(one("SET extra_float_digits = 3"), Command::Nothing("SET"));
        assert_eq!(one("SET application_name='x'"), Command::Nothing("SET"));
        assert_eq!(Command::parse(" ; "), Ok(None));
    }

    #[test]
    fn what_is_unknown_is_told_what_is_near() {
        for (text, near) in [
            ("SHOW POLS", "SHOW POOLS"),
            ("SHOW STATSTOTALS", "SHOW STATS_TOTALS"),
            ("PAUS", "PAUSE"),
            ("SHUTDOWN LATER", "SHUTDOWN NOW"),
            ("KILL", "KILL CLIENT-ID"),
            ("PAUSE a b", "PAUSE [DATABASE]"),
        ] {
            let error = Command::parse(text).unwrap_err();
            assert_eq!(error.code, state::SYNTAX_ERROR);
            let hint = error.hint.unwrap();
            assert!(hint.contains(near), "{text}: {hint}");
        }
        let error = Command::parse("SELECT 1").unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("SHOW HELP lists all commands."));
        assert!(Command::parse("SET default_pool_size = 5").is_err());
        assert!(Command::parse("KILL CLIENT x").is_err());
        assert!(Command::parse("PAUSE \"x").is_err());
    }

    #[test]
    fn only_looking_is_for_everybody() {
        for text in ["PAUSE", "RESUME x", "RELOAD", "KILL 1", "KILL db", "SHUTDOWN"] {
            assert_eq!(one(text).needs(), Rank::Admin, "{text}");
        }
        for name in Show::names() {
            assert_eq!(one(&format!("SHOW {name}")).needs(), Rank::Watcher);
        }
    }

    #[test]
    fn texts_are_split_outside_of_quotes() {
        assert_eq!(split("a; b;;c"), ["a", " b", "c"]);
        assert_eq!(split("PAUSE \"a;b\"; SHOW LISTS;"), ["PAUSE \"a;b\"", " SHOW LISTS"]);
        assert!(split(" ; ").is_empty());
    }
}
