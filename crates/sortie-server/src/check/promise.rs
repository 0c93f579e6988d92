//! What a primary's settings promise for reads from its standbys.
//!
//! A write is acknowledged when the standbys that `synchronous_standby_names` requires have done
//! what `synchronous_commit` asks of them. Only `remote_apply` makes them *replay* it first, so
//! that a read right after it sees it; and only a list of which every member is required covers
//! each of them: with `ANY 1 (a, b)` either one may lag, with `FIRST 1 (a, b)` `b` may, and `a`
//! as soon as it is cut off from the primary while readers still reach it.
//!
//! | setting | who may be behind |
//! |---|---|
//! | `remote_apply`, `ANY 2 (a, b)` or `FIRST 2 (a, b)` | nobody |
//! | `remote_apply`, `FIRST n` of more than `n` | whoever is not among the first `n`, or cut off |
//! | `remote_apply`, `ANY n` of more than `n` | everybody |
//! | `remote_apply`, `*` | everybody: whatever streams may count in a standby's place |
//! | `on`, `remote_write`, `local`, `off`; an empty list | everybody |

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// `synchronous_standby_names`, as PostgreSQL reads it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct StandbyNames {
    pub(super) method: Method,
    /// How many of them must confirm; 0 where nobody is listed.
    pub(super) needed: usize,
    /// As written, without their quotes; compared without regard to case.
    pub(super) names: Vec<String>,
}

/// How those who must confirm are chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    /// The first of the list that are connected.
    First,
    /// Whoever confirms first.
    Any,
}

/// What a standby's reader can count on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Freshness {
    /// Every acknowledged write is seen.
    Current,
    /// A write may be acknowledged before it is seen here.
    MayBeBehind(Cause),
}

/// Why a standby may be behind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// No standby is waited for.
    Asynchronous,
    /// `synchronous_commit` waits for less than replay.
    Level(String),
    /// It is not in the list.
    NotListed(String),
    /// More are listed than needed.
    NotAllNeeded { method: Method, needed: usize, listed: usize },
    /// It is needed only as long as it is connected.
    WhenCutOff { needed: usize, listed: usize },
    /// The list is `*`.
    Wildcard,
    /// Several standbys have its name, and one confirms for all.
    SharedName(String),
    /// It could not be found out under what name it streams.
    NameUnknown,
}

/// Why a list can't be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Unreadable(String);

/// Says for each standby, given by the name that it streams under, what reading from it promises.
pub(super) fn promise(
    synchronous_commit: &str,
    list: &StandbyNames,
    standbys: &[Option<String>],
) -> Vec<Freshness> {
    let judge = |own: &Option<String>| {
        cause(synchronous_commit, list, standbys, own.as_deref())
            .map_or(Freshness::Current, Freshness::MayBeBehind)
    };
    standbys.iter().map(judge).collect()
}

fn cause(
    synchronous_commit: &str,
    list: &StandbyNames,
    standbys: &[Option<String>],
    own: Option<&str>,
) -> Option<Cause> {
    if list.needed == 0 || list.names.is_empty() || is_local(synchronous_commit) {
        return Some(Cause::Asynchronous);
    }
    if synchronous_commit != "remote_apply" {
        return Some(Cause::Level(synchronous_commit.to_owned()));
    }
    if list.names.iter().any(|name| name == "*") {
        return Some(Cause::Wildcard);
    }
    let Some(own) = own else { return Some(Cause::NameUnknown) };
    let is_own = |name: &String| name.eq_ignore_ascii_case(own);
    if standbys.iter().flatten().filter(|name| is_own(name)).count() > 1 {
        return Some(Cause::SharedName(own.to_owned()));
    }
    let Some(position) = list.names.iter().position(is_own) else {
        return Some(Cause::NotListed(own.to_owned()));
    };
    let (needed, listed) = (list.needed, list.names.len());
    if needed >= listed {
        return None;
    }
    Some(match list.method {
        Method::First if position < needed => Cause::WhenCutOff { needed, listed },
        method => Cause::NotAllNeeded { method, needed, listed },
    })
}

/// Settings that wait for no standby at all.
fn is_local(synchronous_commit: &str) -> bool {
    ["off", "local", "false", "no", "0"].contains(&synchronous_commit)
}

/// The statements that make every one of these standbys current, or none where a name is missing.
pub(super) fn remedy(standbys: &[Option<String>]) -> Option<String> {
    let names: Option<Vec<String>> = standbys.iter().cloned().collect();
    let names = names.filter(|names| !names.is_empty())?;
    let list: Vec<String> =
        names.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
    let list = list.join(", ").replace('\'', "''");
    Some(format!(
        "ALTER SYSTEM SET synchronous_standby_names = 'ANY {} ({list})'; \
         ALTER SYSTEM SET synchronous_commit = remote_apply; SELECT pg_reload_conf();",
        names.len(),
    ))
}

impl StandbyNames {
    /// Reads `FIRST n (a, b)`, `ANY n (a, b)`, `n (a, b)`, `a, b` or nothing.
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let tokens = tokens(text)?;
        let (method, rest) = match tokens.split_first() {
            None => return Ok(Self { method: Method::First, needed: 0, names: Vec::new() }),
            Some((first, rest)) if first.is_word("FIRST") => (Method::First, rest),
            Some((first, rest)) if first.is_word("ANY") => (Method::Any, rest),
            Some(_) => (Method::First, &tokens[..]),
        };
        let counted = match rest {
            [Token::Number(needed), Token::Open, list @ .., Token::Close] => Some((*needed, list)),
            _ => None,
        };
        // Without a count it is a bare list, which no keyword may begin.
        let (needed, list) = match counted {
            Some((needed, list)) => (needed, list),
            None if rest.len() == tokens.len() => (1, rest),
            None => return Err(Unreadable(text.to_owned())),
        };
        let names = names(list).ok_or_else(|| Unreadable(text.to_owned()))?;
        Ok(Self { method, needed, names })
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Name { text: String, quoted: bool },
    Number(usize),
    Comma,
    Open,
    Close,
}

impl Token {
    /// Whether it is this keyword, which a quoted name never is.
    fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Name { text, quoted: false } if text.eq_ignore_ascii_case(word))
    }
}

fn names(list: &[Token]) -> Option<Vec<String>> {
    list.split(|token| *token == Token::Comma)
        .map(|one| match one {
            [Token::Name { text, .. }] => Some(text.clone()),
            [Token::Number(number)] => Some(number.to_string()),
            _ => None,
        })
        .collect()
}

fn tokens(text: &str) -> Result<Vec<Token>, Unreadable> {
    let mut chars = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(first) = chars.next() {
        let token = match first {
            space if space.is_ascii_whitespace() => continue,
            ',' => Token::Comma,
            '(' => Token::Open,
            ')' => Token::Close,
            '*' => Token::Name { text: "*".to_owned(), quoted: false },
            '"' => quoted(&mut chars).ok_or_else(|| Unreadable(text.to_owned()))?,
            digit if digit.is_ascii_digit() => {
                let digits = run(digit, &mut chars, |next| next.is_ascii_digit());
                Token::Number(digits.parse().map_err(|_large| Unreadable(text.to_owned()))?)
            }
            letter if is_letter(letter) => {
                let is_part = |next: char| is_letter(next) || next.is_ascii_digit() || next == '$';
                Token::Name { text: run(letter, &mut chars, is_part), quoted: false }
            }
            _ => return Err(Unreadable(text.to_owned())),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphabetic() || letter == '_' || !letter.is_ascii()
}

fn run(first: char, chars: &mut Peekable<Chars<'_>>, is_part: impl Fn(char) -> bool) -> String {
    let mut text = first.to_string();
    while let Some(next) = chars.next_if(|next| is_part(*next)) {
        text.push(next);
    }
    text
}

/// The rest of a quoted name; a doubled quote stands for one.
fn quoted(chars: &mut Peekable<Chars<'_>>) -> Option<Token> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' if chars.next_if_eq(&'"').is_none() => {
                return Some(Token::Name { text, quoted: true });
            }
            letter => text.push(letter),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "FIRST",
            Self::Any => "ANY",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asynchronous => f.write_str("the primary waits for no standby"),
            Self::Level(level) => write!(
                f,
                "synchronous_commit = {level} waits until a write is kept there, not until it can \
                 be read"
            ),
            Self::NotListed(name) => {
                write!(f, "`{name}`, its name, is not in synchronous_standby_names")
            }
            Self::NotAllNeeded { method, needed, listed } => write!(
                f,
                "{method} {needed} of {listed} standbys confirm a write, and this may be another"
            ),
            Self::WhenCutOff { needed, listed } => write!(
                f,
                "only while it is cut off from the primary: FIRST {needed} of {listed} then takes \
                 another in its place"
            ),
            Self::Wildcard => f.write_str(
                "synchronous_standby_names is `*`: whatever streams from the primary may confirm \
                 in its place",
            ),
            Self::SharedName(name) => {
                write!(f, "several standbys are called `{name}`, and any of them confirms for all")
            }
            Self::NameUnknown => f.write_str("this role may not see under what name it streams"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "synchronous_standby_names can't be read: {}", self.0)
    }
}

#[cfg(test)]
mod tests;
