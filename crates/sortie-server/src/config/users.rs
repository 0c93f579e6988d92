//! The users file: names, and what is kept of their passwords.
//!
//! One user on a line, as in PgBouncer's `auth_file`: `"name" "SCRAM-SHA-256$4096:SALT$KEY:KEY"`.
//! The second part is a role's `rolpassword` from PostgreSQL's `pg_authid`, or made by
//! `sortie user NAME`. Lines that begin with `;` or `#` say something to people.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sortie_postgres::{ScramVerifier, VerifierError};

use super::cluster::NAME_BYTES_MAX;
use super::file::text;

/// Who reads such a file can guess passwords as fast as their machine hashes.
const OPEN_TO_OTHERS: u32 = 0o077;

/// Lines of a file that are complained about; one slip can be on all of them.
const SHOWN_MAX: usize = 5;

/// Names, and what is kept of their passwords. Nothing of it is ever printed.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Users(HashMap<String, ScramVerifier>);

impl Users {
    /// Reads a users file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what mends it.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let told = |what: String| format!("{}: {what}", path.display());
        let file = fs::metadata(path).map_err(|error| told(error.to_string()))?;
        let mode = file.permissions().mode() & 0o777;
        if mode & OPEN_TO_OTHERS != 0 {
            let path = path.display();
            return Err(format!(
                "{path}: others than its owner may use it (its mode is {mode:04o}), and with it \
                 passwords can be guessed: chmod 600 {path}"
            ));
        }
        Self::parse(&text(path).map_err(told)?).map_err(|lines| {
            let lines = lines.into_iter().take(SHOWN_MAX);
            let lines = lines.map(|(line, what)| format!("{}:{line}: {what}", path.display()));
            lines.collect::<Vec<_>>().join("; ")
        })
    }

    /// What is kept of a user's password.
    pub(crate) fn verifier(&self, name: &str) -> Option<&ScramVerifier> {
        self.0.get(name)
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &ScramVerifier)> {
        self.0.iter().map(|(name, verifier)| (name.as_str(), verifier))
    }

    /// Reads the text; wrong lines come with their numbers.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<(usize, String)>> {
        let (mut users, mut wrong) = (HashMap::new(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            match self::line(line) {
                Ok((name, _)) if users.contains_key(&name) => {
                    wrong.push((number, format!("user \"{name}\" is named twice")));
                }
                Ok((name, verifier)) => {
                    users.insert(name, verifier);
                }
                Err(what) => wrong.push((number, what)),
            }
        }
        if wrong.is_empty() { Ok(Self(users)) } else { Err(wrong) }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A line of the file, with its end.
pub(crate) fn written(name: &str, verifier: &ScramVerifier) -> String {
    format!("\"{}\" \"{verifier}\"\n", name.replace('"', "\"\""))
}

fn line(line: &str) -> Result<(String, ScramVerifier), String> {
    let layout = || "a line is `\"name\" \"SCRAM-SHA-256$…\"`, with the quotes".to_owned();
    let (name, rest) = quoted(line).ok_or_else(layout)?;
    let (secret, rest) = quoted(rest.trim_start()).ok_or_else(layout)?;
    if !rest.trim().is_empty() {
        return Err(layout());
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("a role has a name of 1 to {NAME_BYTES_MAX} bytes"));
    }
    match secret.parse() {
        Ok(verifier) => Ok((name, verifier)),
        // A password or an MD5 hash of one, which logs in as well: not to be kept, nor shown.
        Err(VerifierError::Scheme) => Err(format!(
            "user \"{name}\" has no SCRAM-SHA-256 secret, and nothing else is taken: make one \
             with `sortie user {name}`, or copy pg_authid.rolpassword"
        )),
        Err(error) => Err(format!("user \"{name}\": {error}")),
    }
}

/// Takes a text in quotes, in which a quote is written twice.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut inside = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        inside.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                inside.push('"');
                rest = more;
            }
            None => return Some((inside, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let verifier = ScramVerifier::of_password("geheim");
        let text = format!(
            "; people\n\n{}  {}# end\n",
            written("alice", &verifier),
            written("o\"neil $ x", &verifier),
        );
        let users = Users::parse(&text).unwrap();
        assert_eq!(users.verifier("alice"), Some(&verifier));
        assert_eq!(users.verifier("o\"neil $ x"), Some(&verifier));
        assert_eq!((users.verifier("bob"), users.iter().count()), (None, 2));
        assert!(!format!("{users:?}").contains("SCRAM"), "{users:?}");
    }

    #[test]
    fn what_is_no_verifier_is_refused_and_not_repeated() {
        let good = written("a", &ScramVerifier::of_password("x"));
        for (line, expected) in [
            ("\"bob\" \"geheim\"", "no SCRAM-SHA-256 secret"),
            ("\"bob\" \"md5geheim\"", "no SCRAM-SHA-256 secret"),
            ("\"bob\" \"\"", "no SCRAM-SHA-256 secret"),
            ("\"bob\" \"SCRAM-SHA-256$0:geheim\"", "SCRAM-SHA-256$4096:SALT$KEY:KEY"),
            ("bob geheim", "with the quotes"),
            ("\"bob\" \"geheim", "with the quotes"),
            (&good.replacen("\"a\"", "\"\"", 1), "1 to 63 bytes"),
            (&format!("{} \"geheim\"", good.trim()), "with the quotes"),
        ] {
            let wrong = Users::parse(&format!("{good}{line}")).unwrap_err();
            assert_eq!((wrong.len(), wrong[0].0), (1, 2), "{wrong:?}");
            assert!(wrong[0].1.contains(expected), "{line}: {wrong:?}");
            assert!(!wrong[0].1.contains("geheim"), "{wrong:?}");
        }
        let twice = Users::parse(&format!("{good}{good}")).unwrap_err();
        assert!(twice[0].1.contains("\"a\" is named twice"), "{twice:?}");
    }

    #[test]
    fn a_file_that_others_may_use_is_refused_with_what_mends_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), written("a", &ScramVerifier::of_password("x"))).unwrap();
        let set = |mode| fs::set_permissions(file.path(), fs::Permissions::from_mode(mode));
        for mode in [0o644, 0o640, 0o604, 0o660, 0o602] {
            set(mode).unwrap();
            let error = Users::load(file.path()).unwrap_err();
            let path = file.path().display();
            assert!(error.contains(&format!("chmod 600 {path}")), "{error}");
            assert!(error.contains(&format!("{mode:04o}")), "{error}");
        }
        for mode in [0o600, 0o400] {
            set(mode).unwrap();
            assert!(Users::load(file.path()).is_ok());
        }
        assert!(Users::load(Path::new("/nowhere")).unwrap_err().contains("/nowhere: No such"));
    }
}
