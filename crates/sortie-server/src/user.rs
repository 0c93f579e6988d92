//! `sortie user`: a line of the users file, from a password on the standard input.

use std::io::{self, BufRead, IsTerminal, Write};

use sortie_postgres::ScramVerifier;

use crate::cli::User;
use crate::config::{NAME_BYTES_MAX, written_user};

/// A longer line is no password.
const PASSWORD_MAX: usize = 1023;

/// Prints the line.
///
/// # Errors
///
/// Why there is none, and what to do instead.
pub(crate) fn run(options: &User) -> Result<(), String> {
    let input = io::stdin();
    if input.is_terminal() {
        let name = &options.name;
        return Err(format!(
            "a password that is typed here can be seen; hand it over: \
             read -rs PASSWORD; printf %s \"$PASSWORD\" | sortie user {name} >> users.txt"
        ));
    }
    let line = line(&mut input.lock(), &options.name)?;
    let written = io::stdout().write_all(line.as_bytes());
    written.map_err(|error| format!("can't write to the standard output: {error}"))
}

fn line(input: &mut impl BufRead, name: &str) -> Result<String, String> {
    let mut password = String::new();
    let read = io::Read::take(input, PASSWORD_MAX as u64 + 1).read_line(&mut password);
    read.map_err(|error| format!("the password can't be read: {error}"))?;
    let password = password.trim_end_matches(['\r', '\n']);
    if !(1..=PASSWORD_MAX).contains(&password.len()) {
        return Err(format!(
            "the first line of the standard input must be the password, of 1 to {PASSWORD_MAX} \
             bytes"
        ));
    }
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || name.contains(['\n', '\r', '\0']) {
        return Err(format!("a role has a name of 1 to {NAME_BYTES_MAX} bytes, on one line"));
    }
    Ok(written_user(name, &ScramVerifier::of_password(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password() {
        let line = |input: &str, name| line(&mut input.as_bytes(), name);
        let made = line("geheim\r\nmore\n", "a\"b").unwrap();
        assert!(made.starts_with("\"a\"\"b\" \"SCRAM-SHA-256$4096:"), "{made}");
        assert!(made.ends_with("\"\n") && !made.contains("geheim"), "{made}");
        assert!(line("", "a").unwrap_err().contains("must be the password"));
        assert!(line("\nx", "a").unwrap_err().contains("must be the password"));
        assert!(line(&"x".repeat(2_000), "a").unwrap_err().contains("1 to 1023"));
        assert!(line("x", "a\nb").unwrap_err().contains("on one line"));
        assert!(line("x", "").unwrap_err().contains("1 to 63"));
    }
}
