//! URLs: `postgres://role:password@host:port/database?keyword=value&…`.

use super::error::ConnInfoError;

/// What follows the scheme, if `text` is a URL.
pub(super) fn rest(text: &str) -> Option<&str> {
    text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"))
}

/// The keywords that a URL without its scheme stands for.
pub(super) fn pairs(rest: &str) -> Result<Vec<(String, String)>, ConnInfoError> {
    let mut pairs = Vec::new();
    let mut put = |keyword: &str, value: &str| -> Result<(), ConnInfoError> {
        pairs.push((keyword.to_owned(), decoded(value)?));
        Ok(())
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    // An unencoded '@' in a password is a common slip, and the last one is the one that counts.
    let (role, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = role.split_once(':').map_or((role, None), |(u, p)| (u, Some(p)));
    if !user.is_empty() {
        put("user", user)?;
    }
    if let Some(password) = password {
        put("password", password)?;
    }
    let (host, port) = place_of(place)?;
    if !host.is_empty() {
        put("host", host)?;
    }
    if let Some(port) = port.filter(|port| !port.is_empty()) {
        put("port", port)?;
    }
    if !database.is_empty() {
        put("dbname", database)?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((keyword, value)) = pair.split_once('=') else {
            return Err(syntax(format!("{pair:?} in the URL's query lacks a value")));
        };
        match (keyword, value) {
            // JDBC's way, which libpq reads too.
            ("ssl", "true") => put("sslmode", "require")?,
            _ => put(&decoded(keyword)?, value)?,
        }
    }
    Ok(pairs)
}

/// Host and port; an IPv6 address stands in brackets.
fn place_of(place: &str) -> Result<(&str, Option<&str>), ConnInfoError> {
    let Some(inner) = place.strip_prefix('[') else {
        return Ok(match place.split_once(':') {
            // Several hosts are refused by name later.
            Some(_) if place.contains(',') => (place, None),
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        });
    };
    let Some((host, after)) = inner.split_once(']') else {
        return Err(syntax("the URL's IPv6 address lacks its closing bracket".to_owned()));
    };
    match after.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if after.is_empty() => Ok((host, None)),
        None => Err(syntax(format!("{after:?} can't follow the URL's IPv6 address"))),
    }
}

/// Takes percent signs and their digits apart.
fn decoded(text: &str) -> Result<String, ConnInfoError> {
    let wrong = || syntax("a '%' in the URL must be followed by two hexadecimal digits".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = digit().zip(digit()).ok_or_else(wrong)?;
        let byte = u8::try_from(high * 16 + low).expect("two digits make a byte");
        if byte == 0 {
            return Err(syntax("the URL contains a zero byte".to_owned()));
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_not_text| syntax("the URL is not UTF-8".to_owned()))
}

fn syntax(what: String) -> ConnInfoError {
    ConnInfoError::Syntax(what)
}
