//! Parameters by which a session's texts, or what is worked out here, may mean something else.

use crate::sql::Settings;

/// The first parameter by which a text, or what is worked out on this side, may mean something
/// else.
pub(super) fn unreadable(parameters: &[(Box<str>, Box<str>)], spread: bool) -> Option<&str> {
    let found = parameters.iter().find(|(name, value)| match &**name {
        // Those on the server's command line, as a driver's `options` has them.
        "options" => match Settings::options(value) {
            Ok(options) => options.iter().any(|(name, value)| changes(name, value, spread)),
            Err(_unreadable) => true,
        },
        name => changes(name, value, spread),
    });
    found.map(|(name, _)| &**name)
}

/// Whether texts are read otherwise with this value, or (`spread`) values compared otherwise.
fn changes(name: &str, value: &str, spread: bool) -> bool {
    match name.to_ascii_lowercase().as_str() {
        "standard_conforming_strings" => {
            !matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1")
        }
        "client_encoding" => {
            let plain = value.chars().filter(char::is_ascii_alphanumeric);
            let plain: String = plain.map(|c| c.to_ascii_uppercase()).collect();
            !matches!(plain.as_str(), "UTF8" | "UNICODE")
        }
        "array_nulls" | "transform_null_equals" => spread,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::unreadable;

    #[test]
    fn parameters_that_change_how_texts_are_read_are_seen_in_options_too() {
        let found = |name: &str, value: &str, spread| {
            unreadable(&[(name.into(), value.into())], spread).is_some()
        };
        for (name, value, alone, spread) in [
            ("client_encoding", "utf-8", false, false),
            ("client_encoding", "LATIN1", true, true),
            ("standard_conforming_strings", "off", true, true),
            ("transform_null_equals", "on", false, true),
            ("timezone", "UTC", false, false),
            ("options", "-c TimeZone=UTC -c geqo=off", false, false),
            ("options", "-c Transform_Null_Equals=on", false, true),
            ("options", "--standard-conforming-strings=off", true, true),
            ("options", "-x", true, true),
        ] {
            assert_eq!(found(name, value, false), alone, "{name} = {value}");
            assert_eq!(found(name, value, true), spread, "{name} = {value}");
        }
    }
}
