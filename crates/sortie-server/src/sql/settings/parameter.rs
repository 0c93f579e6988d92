//! The list of parameters, and what values each may have.

use crate::sql::error::{SqlError, state};

/// One parameter.
#[derive(Debug)]
pub(super) struct Parameter {
    /// As PostgreSQL spells it; compared without regard to case.
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    kind: Kind,
    /// Told to the client, at first and whenever it changes.
    pub(super) reported: bool,
    /// Proven not to change any answer: left out of a read's key.
    pub(super) harmless: bool,
    pub(super) description: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Nobody can change it.
    Fixed,
    /// It has one value here; setting it to that is fine.
    Only(&'static str),
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    /// Milliseconds, or a number with a unit.
    Duration,
    OneOf(&'static [&'static str]),
    Text,
    Encoding,
    DateStyle,
    SearchPath,
}

const fn parameter(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    description: &'static str,
) -> Parameter {
    Parameter { name, default, kind, reported: false, harmless: false, description }
}

impl Parameter {
    const fn reported(self) -> Self {
        Self { reported: true, ..self }
    }

    const fn harmless(self) -> Self {
        Self { harmless: true, ..self }
    }
}

/// The version of PostgreSQL whose behaviour is followed.
const SERVER_VERSION: &str = "15.0";

/// Every parameter there is, by name.
pub(super) const PARAMETERS: &[Parameter] = &[
    parameter("application_name", "", Kind::Text, "The application, for statistics.")
        .reported()
        .harmless(),
    parameter("bytea_output", "hex", Kind::OneOf(&["escape", "hex"]), "Text format of bytea."),
    parameter("client_encoding", "UTF8", Kind::Encoding, "The client's encoding.").reported(),
    parameter(
        "client_min_messages",
        "notice",
        Kind::OneOf(&[
            "debug", "debug1", "debug2", "debug3", "debug4", "debug5", "error", "log", "notice",
            "warning",
        ]),
        "The least severe message that is sent.",
    )
    .harmless(),
    parameter("DateStyle", "ISO, MDY", Kind::DateStyle, "Text format of dates.").reported(),
    parameter("default_transaction_deferrable", "off", Kind::Bool, "Has no effect on reads.")
        .harmless(),
    parameter(
        "default_transaction_isolation",
        "read committed",
        Kind::Only("read committed"),
        "Isolation of each transaction.",
    ),
    parameter("default_transaction_read_only", "on", Kind::Bool, "Every transaction only reads.")
        .reported()
        .harmless(),
    parameter("extra_float_digits", "1", Kind::Integer { min: -15, max: 3 }, "Digits of floats."),
    parameter("idle_in_transaction_session_timeout", "0", Kind::Duration, "Not enforced.")
        .harmless(),
    parameter("idle_session_timeout", "0", Kind::Duration, "Not enforced.").harmless(),
    parameter("in_hot_standby", "on", Kind::Fixed, "This endpoint only reads.").reported(),
    parameter("integer_datetimes", "on", Kind::Fixed, "Timestamps are integers.").reported(),
    parameter(
        "IntervalStyle",
        "postgres",
        Kind::OneOf(&["iso_8601", "postgres", "postgres_verbose", "sql_standard"]),
        "Text format of intervals.",
    )
    .reported(),
    parameter("is_superuser", "off", Kind::Fixed, "Nobody is.").reported(),
    parameter("jit", "on", Kind::Bool, "Has no effect here.").harmless(),
    parameter("lc_collate", "C", Kind::Fixed, "Text is ordered by its bytes."),
    parameter("lc_ctype", "C", Kind::Fixed, "Classes of characters."),
    parameter("lc_messages", "C", Kind::Only("C"), "Language of messages."),
    parameter("lc_monetary", "C", Kind::Text, "Format of money."),
    parameter("lc_numeric", "C", Kind::Text, "Format of to_char()."),
    parameter("lc_time", "C", Kind::Text, "Names of days and months."),
    parameter("lock_timeout", "0", Kind::Duration, "Nothing waits for locks here.").harmless(),
    parameter("max_identifier_length", "63", Kind::Fixed, "Bytes of a name."),
    parameter("row_security", "on", Kind::Bool, "There are no policies."),
    parameter("search_path", "\"$user\", public", Kind::SearchPath, "Where tables are found."),
    parameter("server_encoding", "UTF8", Kind::Fixed, "The server's encoding.").reported(),
    parameter("server_version", SERVER_VERSION, Kind::Fixed, "PostgreSQL's, which is followed.")
        .reported(),
    parameter("server_version_num", "150000", Kind::Fixed, "The same as a number."),
    parameter("session_authorization", "", Kind::Fixed, "The session's user.").reported(),
    parameter("standard_conforming_strings", "on", Kind::Only("on"), "Backslashes are ordinary.")
        .reported(),
    parameter("statement_timeout", "0", Kind::Duration, "How long a statement may take.")
        .harmless(),
    parameter(
        "synchronous_commit",
        "on",
        Kind::OneOf(&["local", "off", "on", "remote_apply", "remote_write"]),
        "Has no effect on reads.",
    )
    .harmless(),
    parameter("TimeZone", "UTC", Kind::Text, "Zone of times.").reported(),
    parameter("transaction_deferrable", "off", Kind::Only("off"), "Has no effect on reads."),
    parameter(
        "transaction_isolation",
        "read committed",
        Kind::Only("read committed"),
        "Isolation of this transaction.",
    ),
    parameter("transaction_read_only", "on", Kind::Only("on"), "This transaction only reads."),
    parameter("work_mem", "4MB", Kind::Text, "Has no effect here.").harmless(),
];

/// The parameter with this name, in any case.
pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(name))
}

impl Parameter {
    /// The value as it is kept and shown.
    pub(super) fn accept(&self, value: &str) -> Result<String, SqlError> {
        let lower = value.trim().to_ascii_lowercase();
        match self.kind {
            Kind::Fixed => {
                let message = format!("parameter \"{}\" cannot be changed", self.name);
                Err(SqlError::new(state::CANT_CHANGE_RUNTIME_PARAM, message))
            }
            Kind::Only(only) => {
                let same = lower.eq_ignore_ascii_case(only)
                    || boolean(&lower).is_some_and(|value| boolean(only) == Some(value));
                if same { Ok(only.to_owned()) } else { Err(self.unsupported(value)) }
            }
            Kind::Bool => boolean(&lower)
                .map(|value| if value { "on" } else { "off" }.to_owned())
                .ok_or_else(|| {
                    let message = format!("parameter \"{}\" requires a Boolean value", self.name);
                    SqlError::new(state::INVALID_PARAMETER_VALUE, message)
                }),
            Kind::Integer { min, max } => match lower.parse() {
                Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
                Ok(number) => {
                    let message = format!(
                        "{number} is outside the valid range for parameter \"{}\" ({min} .. {max})",
                        self.name
                    );
                    Err(SqlError::new(state::INVALID_PARAMETER_VALUE, message))
                }
                Err(_) => Err(self.invalid(value)),
            },
            Kind::Duration => match milliseconds(&lower) {
                Some(0) => Ok("0".to_owned()),
                Some(number) => Ok(shown(number)),
                None => {
                    let hint = "Valid units for this parameter are \"us\", \"ms\", \"s\", \
                                \"min\", \"h\", and \"d\".";
                    Err(self.invalid(value).hint(hint))
                }
            },
            Kind::OneOf(values) => values
                .iter()
                .find(|known| **known == lower)
                .map(|known| (*known).to_owned())
                .ok_or_else(|| {
                    let hint = format!("Available values: {}.", values.join(", "));
                    self.invalid(value).hint(hint)
                }),
            Kind::Text => Ok(value.to_owned()),
            Kind::Encoding => self.encoding(value),
            Kind::DateStyle => self.date_style(value),
            Kind::SearchPath => {
                let public = value.split(',').any(|name| name.trim().trim_matches('"') == "public");
                if public { Ok(value.to_owned()) } else { Err(self.unsupported(value)) }
            }
        }
    }

    /// Everything is UTF-8; a client that calls it bytes is served the same bytes.
    fn encoding(&self, value: &str) -> Result<String, SqlError> {
        let plain: String =
            value.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
        match plain.as_str() {
            "UTF8" | "UNICODE" => Ok("UTF8".to_owned()),
            "SQLASCII" => Ok("SQL_ASCII".to_owned()),
            _ => Err(self.unsupported(value)),
        }
    }

    fn date_style(&self, value: &str) -> Result<String, SqlError> {
        let (mut style, mut order) = ("ISO", "MDY");
        for word in value.split([',', ' ']).filter(|word| !word.is_empty()) {
            match word.to_ascii_uppercase().as_str() {
                "ISO" => style = "ISO",
                "SQL" => style = "SQL",
                "POSTGRES" => style = "Postgres",
                "GERMAN" => (style, order) = ("German", "DMY"),
                "MDY" | "US" => order = "MDY",
                "DMY" | "EURO" | "EUROPEAN" => order = "DMY",
                "YMD" => order = "YMD",
                _ => {
                    let detail = format!("Unrecognized key word: \"{}\".", word.to_lowercase());
                    return Err(self.invalid(value).detail(detail));
                }
            }
        }
        Ok(format!("{style}, {order}"))
    }

    fn invalid(&self, value: &str) -> SqlError {
        let message = format!("invalid value for parameter \"{}\": \"{value}\"", self.name);
        SqlError::new(state::INVALID_PARAMETER_VALUE, message)
    }

    fn unsupported(&self, value: &str) -> SqlError {
        SqlError::unsupported(format!("{} = \"{value}\" is not supported here", self.name))
    }
}

/// A span of time in milliseconds; without a unit it is in milliseconds.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let milliseconds = match text[digits..].trim() {
        "us" => number.div_ceil(1_000),
        "" | "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "min" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        "d" => number.checked_mul(86_400_000)?,
        _ => return None,
    };
    (milliseconds <= u64::from(i32::MAX.unsigned_abs())).then_some(milliseconds)
}

/// With the largest unit that leaves a whole number, as PostgreSQL shows it.
fn shown(milliseconds: u64) -> String {
    [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")]
        .into_iter()
        .find(|(size, _)| milliseconds.is_multiple_of(*size))
        .map_or_else(
            || format!("{milliseconds}ms"),
            |(size, unit)| format!("{}{unit}", milliseconds / size),
        )
}

/// PostgreSQL's spellings: the words, their unique beginnings, and digits.
fn boolean(text: &str) -> Option<bool> {
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(text);
    if begins("true", 1) || begins("yes", 1) || text == "1" || text == "on" {
        return Some(true);
    }
    let no = begins("false", 1) || begins("no", 1) || text == "0" || begins("off", 2);
    no.then_some(false)
}
