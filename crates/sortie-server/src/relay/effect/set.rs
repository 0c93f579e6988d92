//! Statements about parameters.

use super::{Customs, Effect, Reason};
use crate::sql::{Lexeme, Token};

/// Client encodings in which a byte that looks like ASCII is ASCII: all that servers can have.
const ENCODINGS: [&str; 11] = [
    "utf8",
    "unicode",
    "sqlascii",
    "latin",
    "iso8859",
    "win125",
    "win866",
    "win874",
    "windows125",
    "koi8",
    "euc",
];

/// Parameters that are lists of names (`GUC_LIST_QUOTE`), and so keep what is quoted apart.
const LISTS: [&str; 5] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// `SET`, without that word.
pub(super) fn set(rest: &[Lexeme]) -> Effect {
    let words: Vec<&str> = rest.iter().take(3).map(word).collect();
    let (rest, words) = match words[..] {
        ["local", ..] => return local(&rest[1..]),
        // Until the end of the transaction only.
        ["transaction" | "constraints", ..] => return Effect::Nothing,
        ["session", "characteristics", ..] => return opaque("session characteristics"),
        ["session", "authorization", ..] => return opaque("session_authorization"),
        ["session", ..] => (&rest[1..], &words[1..]),
        _ => (rest, &words[..]),
    };
    match words {
        // `LOCAL` is a word here, and not a value.
        ["time", "zone", "local" | "interval", ..] => opaque("timezone"),
        ["time", "zone", ..] => assign("timezone", &rest[2..]),
        ["schema", ..] => opaque("search_path"),
        ["role", ..] => opaque("role"),
        ["xml", "option", ..] => opaque("xmloption"),
        ["names", ..] => assign("client_encoding", &rest[1..]),
        ["seed", ..] => Effect::Dirty(Reason::Unknown),
        _ => match name(rest) {
            Some((name, value)) if value.first().is_some_and(is_assignment) => {
                assign(&name, &value[1..])
            }
            _ => Effect::Dirty(Reason::Unknown),
        },
    }
}

/// `SET LOCAL`, without those words: until the end of the transaction only.
fn local(rest: &[Lexeme]) -> Effect {
    match name(rest) {
        Some((name, value)) if is_own(&name) && value.first().is_some_and(is_assignment) => {
            match assign(&name, &value[1..]) {
                // Not another shard in one transaction.
                Effect::Switch(name, value) if &*name != "sortie.shard" => {
                    Effect::SwitchLocal(name, value)
                }
                _ => Effect::Nothing,
            }
        }
        _ => Effect::Nothing,
    }
}

/// `RESET`, without that word.
pub(super) fn reset(rest: &[Lexeme]) -> Effect {
    let words: Vec<&str> = rest.iter().take(2).map(word).collect();
    match words[..] {
        ["all"] => Effect::ResetAll,
        ["time", "zone"] => Effect::Reset("timezone".into()),
        ["session", "authorization"] => Effect::Reset("session_authorization".into()),
        _ => match name(rest) {
            Some((name, [])) => reset_to_default(&name),
            _ => Effect::Dirty(Reason::Unknown),
        },
    }
}

/// The custom parameters that a statement sets, or resets.
pub(super) fn customs(statement: &[Lexeme]) -> Customs {
    let called = statement.windows(4).map(|call| match call {
        [function, open, first, end] if calls_set_config(function, open) => {
            match (&first.token, &end.token) {
                (Token::String(name), Token::Punctuation(",")) => {
                    Customs::of(&name.to_ascii_lowercase())
                }
                _ => Customs::ANY,
            }
        }
        _ => Customs::default(),
    });
    let set = match statement {
        [set, scope, rest @ ..] if set.is("set") && (scope.is("local") || scope.is("session")) => {
            name(rest)
        }
        [set, rest @ ..] if set.is("set") || set.is("reset") => name(rest),
        _ => None,
    };
    let set = set.filter(|(name, _)| !is_own(name)).map(|(name, _)| Customs::of(&name));
    called.fold(set.unwrap_or_default(), Customs::and)
}

fn calls_set_config(function: &Lexeme, open: &Lexeme) -> bool {
    matches!(&function.token, Token::Word(name) | Token::Quoted(name) if name == "set_config")
        && open.token == Token::Punctuation("(")
}

/// `SHOW`, without that word.
pub(super) fn show(rest: &[Lexeme]) -> Effect {
    match name(rest) {
        Some((name, [])) if is_own(&name) => Effect::Show(name.into()),
        _ => Effect::Nothing,
    }
}

/// `DEALLOCATE`, without that word.
pub(super) fn deallocate(rest: &[Lexeme]) -> Effect {
    let rest = match rest {
        [prepare, name] if prepare.is("prepare") => std::slice::from_ref(name),
        rest => rest,
    };
    match rest {
        [all] if all.is("all") => Effect::Deallocate(None),
        [Lexeme { token: Token::Word(name) | Token::Quoted(name), .. }] => {
            Effect::Deallocate(Some(name.as_str().into()))
        }
        _ => Effect::Dirty(Reason::Unknown),
    }
}

/// A parameter gets a value: a constant, or `DEFAULT`, or several of them.
pub(super) fn assign(name: &str, value: &[Lexeme]) -> Effect {
    let Some(first) = value.first() else { return Effect::Dirty(Reason::Unknown) };
    if first.is("default") {
        return reset_to_default(name);
    }
    let text = match &first.token {
        Token::Word(text) | Token::Quoted(text) | Token::String(text) | Token::Number(text) => text,
        _ => "",
    };
    match name {
        _ if is_own(name) => Effect::Switch(name.into(), Some(text.into())),
        "standard_conforming_strings" if !is_on(text) => Effect::Dirty(Reason::Encoding),
        "client_encoding" if !is_readable(text) => Effect::Dirty(Reason::Encoding),
        "role" | "session_authorization" => opaque(name),
        _ if value.len() > 1 || text.is_empty() => opaque(name),
        // A name in quotes is one name; as the same text elsewhere it would be read as a list.
        _ if LISTS.contains(&name) && !matches!(first.token, Token::Word(_)) => opaque(name),
        _ => Effect::Set(name.into(), Some(text.into())),
    }
}

/// Whether texts in this client encoding can be read byte for byte.
pub(crate) fn is_readable(encoding: &str) -> bool {
    let plain: String =
        encoding.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    ENCODINGS.iter().any(|known| plain.starts_with(known))
}

fn reset_to_default(name: &str) -> Effect {
    if is_own(name) { Effect::Switch(name.into(), None) } else { Effect::Reset(name.into()) }
}

/// Set, and nobody but PostgreSQL knows to what.
fn opaque(name: &str) -> Effect {
    Effect::Set(name.into(), None)
}

/// Whether a parameter is one of sortie's switches.
fn is_own(name: &str) -> bool {
    name.starts_with("sortie.")
}

fn is_on(text: &str) -> bool {
    ["on", "true", "yes", "1"].iter().any(|on| on.eq_ignore_ascii_case(text))
}

fn is_assignment(lexeme: &Lexeme) -> bool {
    lexeme.is("to") || matches!(&lexeme.token, Token::Operator(text) if text == "=")
}

fn word(lexeme: &Lexeme) -> &str {
    match &lexeme.token {
        Token::Word(word) => word,
        _ => "",
    }
}

/// The parameter's name, in lower case, and what follows it.
fn name(rest: &[Lexeme]) -> Option<(String, &[Lexeme])> {
    let (first, mut rest) = rest.split_first()?;
    let mut found = part(first)?;
    while let [Lexeme { token: Token::Punctuation("."), .. }, next, ..] = rest {
        found.push('.');
        found.push_str(&part(next)?);
        rest = &rest[2..];
    }
    Some((found, rest))
}

fn part(lexeme: &Lexeme) -> Option<String> {
    match &lexeme.token {
        Token::Word(text) | Token::Quoted(text) => Some(text.to_ascii_lowercase()),
        _ => None,
    }
}
