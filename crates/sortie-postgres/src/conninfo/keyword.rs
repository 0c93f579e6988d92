//! Keywords: `host=db1 dbname=shop …`, and what each one means.

use std::path::PathBuf;
use std::time::Duration;

use super::error::ConnInfoError;
use super::{Address, Binding, ConnInfo, Credential, Roots, Tls, TlsMode};

const PORT: u16 = 5432;

/// What is understood.
const KNOWN: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "connect_timeout",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "channel_binding",
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "options",
];

/// What libpq understands and this does not, with what to do instead.
const UNSUPPORTED: &[(&[&str], &str)] = &[
    (&["passfile", "service", "servicefile"], "write what the file says into the string"),
    (&["target_session_attrs", "load_balance_hosts"], "name each server once"),
    (&["replication"], "leave it out: no replication connections are made"),
    (&["requiressl"], "write sslmode=require"),
    (&["sslpassword"], "use a key file that only the server's account can read"),
    (&["sslcrl", "sslcrldir", "sslcertmode", "sslcompression"], "leave it out"),
    (&["sslsni", "sslnegotiation", "requirepeer"], "leave it out"),
    (&["ssl_min_protocol_version", "ssl_max_protocol_version"], "leave it out: 1.2 and 1.3"),
    (&["min_protocol_version", "max_protocol_version"], "leave it out: 3.0 is spoken"),
    (&["require_auth"], "leave it out: a clear-text password is only sent inside of TLS"),
    (&["krbsrvname", "gsslib", "gssdelegation"], "GSSAPI and Kerberos are not spoken"),
    (&["keepalives", "keepalives_idle"], "leave it out: a silent host is probed after 30 s"),
    (&["keepalives_interval", "keepalives_count", "tcp_user_timeout"], "leave it out"),
    (&["sslkeylogfile", "scram_client_key", "scram_server_key"], "leave it out"),
    (&["oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"], "leave it out"),
];

/// Takes a list of `keyword=value` apart. Values may be quoted; a backslash quotes a character.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, ConnInfoError> {
    let mut pairs = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(pairs);
        }
        let mut keyword = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            keyword.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if keyword.is_empty() || rest.next() != Some('=') {
            // Not the word itself: it may be part of a password with a blank in it.
            return Err(ConnInfoError::Syntax("a keyword lacks its '=' and value".to_owned()));
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = rest.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match rest.next_if(|c| quoted || !c.is_whitespace()) {
                Some('\'') if quoted => break,
                Some('\\') => value.extend(rest.next()),
                Some(c) => value.push(c),
                None if quoted => {
                    return Err(ConnInfoError::Syntax("a quote is not closed".to_owned()));
                }
                None => break,
            }
        }
        pairs.push((keyword, value));
    }
}

/// Gives the keywords their meaning. Of one that is given twice the last counts.
pub(super) fn assemble(pairs: &[(String, String)]) -> Result<ConnInfo, ConnInfoError> {
    for (keyword, value) in pairs {
        known(keyword, value)?;
    }
    let value = |keyword: &'static str| {
        let mut values = pairs.iter().rev().filter(|(known, _)| known == keyword);
        values.next().map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    let user = value("user").ok_or(ConnInfoError::Missing {
        keyword: "user",
        example: "the role: postgres://ROLE@HOST/… or user=ROLE",
    })?;
    let host_address = value("hostaddr").map(str::parse).transpose();
    let host_address =
        host_address.map_err(|_not_one| wrong("hostaddr", "a numeric IPv4 or IPv6 address"))?;
    let tls = tls(value)?;
    let credential = match value("password") {
        Some(password) => Credential::Password(password.to_owned()),
        None if tls.certificate.is_some() => Credential::Certificate,
        None => Credential::Trust,
    };
    let mut info = ConnInfo::new(address(value)?, user, value("dbname").unwrap_or(user));
    info.host_address = host_address;
    info.credential = credential;
    info.tls = tls;
    if let Some(seconds) = value("connect_timeout") {
        let seconds = seconds.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
        let seconds = seconds.ok_or(wrong("connect_timeout", "a number of seconds, 1 to 3600"))?;
        info.connect_timeout = Duration::from_secs(seconds);
    }
    let application = value("application_name").or(value("fallback_application_name"));
    for (name, value) in [
        ("application_name", application),
        ("client_encoding", value("client_encoding")),
        ("options", value("options")),
    ] {
        info.parameters.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    Ok(info)
}

fn known(keyword: &str, value: &str) -> Result<(), ConnInfoError> {
    if KNOWN.contains(&keyword) {
        return Ok(());
    }
    if keyword == "gssencmode" {
        // What most strings say that name it at all, and it asks for nothing.
        let harmless = matches!(value, "disable" | "prefer");
        return if harmless { Ok(()) } else { Err(wrong("gssencmode", "disable or prefer")) };
    }
    let unsupported = UNSUPPORTED.iter().find(|(keywords, _)| keywords.contains(&keyword));
    if let Some(&(_, instead)) = unsupported {
        return Err(ConnInfoError::Unsupported { keyword: keyword.to_owned(), instead });
    }
    let nearest = KNOWN.iter().map(|known| (distance(known, keyword), *known)).min();
    let nearest = nearest.filter(|(distance, _)| *distance <= 3).map(|(_, known)| known);
    Err(ConnInfoError::Unknown { keyword: keyword.to_owned(), nearest })
}

fn address<'a>(value: impl Fn(&'static str) -> Option<&'a str>) -> Result<Address, ConnInfoError> {
    let host = value("host").or(value("hostaddr")).unwrap_or("localhost");
    if host.contains(',') || value("port").is_some_and(|port| port.contains(',')) {
        return Err(wrong("host", "one host: name each server in a string of its own"));
    }
    let port = value("port").map_or(Ok(PORT), str::parse).ok().filter(|port| *port > 0);
    let port = port.ok_or(wrong("port", "a number from 1 to 65535"))?;
    if host.starts_with('/') {
        return Ok(Address::Unix { folder: PathBuf::from(host), port });
    }
    if host.starts_with('@') {
        return Err(wrong("host", "a name, an address, or the folder of a Unix socket"));
    }
    Ok(Address::tcp(host, port))
}

fn tls<'a>(value: impl Fn(&'static str) -> Option<&'a str>) -> Result<Tls, ConnInfoError> {
    let roots = match value("sslrootcert") {
        None => Roots::Unset,
        Some("system") => Roots::System,
        Some(file) => Roots::File(PathBuf::from(file)),
    };
    let mode = match value("sslmode") {
        // As in libpq: who trusts the whole world's authorities must at least check the name.
        None if roots == Roots::System => TlsMode::VerifyFull,
        None | Some("prefer") => TlsMode::Prefer,
        Some("disable") => TlsMode::Disable,
        Some("require") => TlsMode::Require,
        Some("verify-ca") => TlsMode::VerifyCa,
        Some("verify-full") => TlsMode::VerifyFull,
        Some(_) => {
            return Err(wrong("sslmode", "disable, prefer, require, verify-ca or verify-full"));
        }
    };
    if roots == Roots::System && mode != TlsMode::VerifyFull {
        return Err(wrong("sslmode", "verify-full where sslrootcert is system"));
    }
    if roots == Roots::Unset && matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull) {
        return Err(ConnInfoError::Missing {
            keyword: "sslrootcert",
            example: "sslrootcert=FILE, or sslrootcert=system",
        });
    }
    let binding = match value("channel_binding") {
        Some("disable") => Binding::Disable,
        None | Some("prefer") => Binding::Prefer,
        Some("require") => Binding::Require,
        Some(_) => return Err(wrong("channel_binding", "disable, prefer or require")),
    };
    let (certificate, key) = (value("sslcert"), value("sslkey"));
    if certificate.is_some() != key.is_some() {
        return Err(ConnInfoError::Missing {
            keyword: if key.is_some() { "sslcert" } else { "sslkey" },
            example: "both: a certificate without its key proves nothing",
        });
    }
    let path = |file: Option<&str>| file.map(PathBuf::from);
    Ok(Tls { mode, roots, certificate: path(certificate), key: path(key), binding })
}

fn wrong(keyword: &'static str, expected: &'static str) -> ConnInfoError {
    ConnInfoError::Value { keyword, expected }
}

/// How many characters must be put in, left out or changed to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
