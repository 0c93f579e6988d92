//! A session's parameters: what `SET` may change, what `SHOW` shows, what clients are told.
//!
//! # Invariants
//!
//! 1. Only the parameters of one list exist; a value that would change how statements are read
//!    or answered is refused, as this endpoint has one way of doing either.
//! 2. Whatever is not on the list of the harmless belongs to the key of a read.
//! 3. A transaction that is rolled back leaves no setting behind; `SET LOCAL` ends with it.

mod parameter;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::sql::error::{SqlError, state};

use self::parameter::{PARAMETERS, Parameter, find};

/// Values that differ from the built-in default, by the parameter's name.
type Values = BTreeMap<&'static str, String>;

/// Parameters set to other than their default, without those known not to change an answer; in
/// order.
pub(crate) type Decisive = Arc<[(Cow<'static, str>, Box<str>)]>;

/// The parameters of one session.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    user: Arc<str>,
    database: Arc<str>,
    /// What the session began with, and what `RESET` goes back to.
    startup: Values,
    session: Values,
    /// Values of `SET LOCAL`, until the transaction ends.
    local: Values,
    /// The session's values when the transaction began.
    saved: Option<Values>,
    /// What the client knows, of the parameters that are reported.
    reported: BTreeMap<&'static str, String>,
    decisive: Decisive,
}

impl Settings {
    /// The parameters of a session that begins with these of its startup message. The names
    /// `user`, `database` and `replication` are not parameters and are passed over; `options`
    /// is read as a command line of `-c name=value` and `--name=value`.
    ///
    /// # Errors
    ///
    /// As [`Settings::set`], and 42601 for `options` that can't be read.
    pub(crate) fn new<'a>(
        user: &str,
        database: &str,
        startup: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, SqlError> {
        let (user, database) = (Arc::from(user), Arc::from(database));
        let mut settings = Self {
            user,
            database,
            startup: Values::new(),
            session: Values::new(),
            local: Values::new(),
            saved: None,
            reported: BTreeMap::new(),
            decisive: Arc::default(),
        };
        for (name, value) in startup {
            match name {
                "user" | "database" | "replication" => {}
                "options" => {
                    for (name, value) in options(value)? {
                        settings.set(&name, Some(&value), false)?;
                    }
                }
                name => settings.set(name, Some(value), false)?,
            }
        }
        settings.startup.clone_from(&settings.session);
        settings.refresh();
        Ok(settings)
    }

    /// What of them may change an answer: the part of a read's key that the session contributes.
    pub(crate) fn decisive(&self) -> &Decisive {
        &self.decisive
    }

    /// `SET name = value`; `None` is `DEFAULT`. `local` ends with the transaction.
    ///
    /// # Errors
    ///
    /// 42704 for an unknown parameter, 22023 for a value it can't have, 55P02 for one that can't
    /// be changed, 0A000 for a value that is not served.
    pub(crate) fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
        local: bool,
    ) -> Result<(), SqlError> {
        let parameter = lookup(name)?;
        let value = match value {
            Some(value) => Some(parameter.accept(value)?),
            None => self.startup.get(parameter.name).cloned(),
        };
        // Outside a transaction PostgreSQL warns that SET LOCAL has no effect; nor has it here.
        if !local {
            self.local.remove(parameter.name);
            self.put(parameter, value);
        } else if self.saved.is_some() {
            let value = value.unwrap_or_else(|| parameter.default.to_owned());
            self.local.insert(parameter.name, value);
        }
        self.refresh();
        Ok(())
    }

    /// `RESET name`.
    ///
    /// # Errors
    ///
    /// As [`Settings::set`].
    pub(crate) fn reset(&mut self, name: &str) -> Result<(), SqlError> {
        self.set(name, None, false)
    }

    /// `RESET ALL`.
    pub(crate) fn reset_all(&mut self) {
        self.local.clear();
        self.session.clone_from(&self.startup);
        self.refresh();
    }

    /// A transaction begins.
    pub(crate) fn begin(&mut self) {
        self.saved = Some(self.session.clone());
    }

    /// The transaction ends and keeps what it set.
    pub(crate) fn commit(&mut self) {
        self.saved = None;
        self.local.clear();
        self.refresh();
    }

    /// The transaction ends and leaves nothing behind.
    pub(crate) fn rollback(&mut self) {
        if let Some(saved) = self.saved.take() {
            self.session = saved;
        }
        self.local.clear();
        self.refresh();
    }

    /// The column name and the value of `SHOW name`.
    ///
    /// # Errors
    ///
    /// 42704 for an unknown parameter.
    pub(crate) fn show(&self, name: &str) -> Result<(&'static str, String), SqlError> {
        let parameter = lookup(name)?;
        Ok((parameter.name, self.value(parameter)))
    }

    /// A parameter's name as PostgreSQL spells it.
    ///
    /// # Errors
    ///
    /// 42704 for an unknown parameter.
    pub(crate) fn name_of(name: &str) -> Result<&'static str, SqlError> {
        lookup(name).map(|parameter| parameter.name)
    }

    /// Name, value and description of every parameter, by name.
    pub(crate) fn show_all(&self) -> Vec<[String; 3]> {
        let row = |parameter: &Parameter| {
            [parameter.name.to_owned(), self.value(parameter), parameter.description.to_owned()]
        };
        PARAMETERS.iter().map(row).collect()
    }

    /// The reported parameters (`ParameterStatus`) whose value the client does not know yet; all
    /// of them at first.
    pub(crate) fn changes(&mut self) -> Vec<(&'static str, String)> {
        let mut changes = Vec::new();
        for parameter in PARAMETERS.iter().filter(|parameter| parameter.reported) {
            let value = self.value(parameter);
            if self.reported.get(parameter.name) != Some(&value) {
                self.reported.insert(parameter.name, value.clone());
                changes.push((parameter.name, value));
            }
        }
        changes
    }

    /// The parameters of a startup packet's `options`, by name.
    ///
    /// # Errors
    ///
    /// 42601 for what can't be read.
    pub(crate) fn options(line: &str) -> Result<Vec<(String, String)>, SqlError> {
        options(line)
    }

    /// The words of `options`, each as it stands there and as it is meant.
    pub(crate) fn words(line: &str) -> impl Iterator<Item = (&str, String)> {
        words(line)
    }

    /// Whether a parameter is proven not to change any answer.
    pub(crate) fn is_harmless(name: &str) -> bool {
        find(name).is_some_and(|parameter| parameter.harmless)
    }

    /// How long a statement of this session may take.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        Self::timeout(&self.value(find("statement_timeout").expect("it is on the list")))
    }

    /// What a value of `statement_timeout` says; `None` is without end.
    pub(crate) fn timeout(value: &str) -> Option<Duration> {
        let milliseconds = parameter::milliseconds(&value.to_ascii_lowercase())?;
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }

    /// Whether a value of `statement_timeout` is understood here.
    pub(crate) fn is_timeout(value: &str) -> bool {
        parameter::milliseconds(&value.to_ascii_lowercase()).is_some()
    }

    pub(crate) fn user(&self) -> &Arc<str> {
        &self.user
    }

    pub(crate) fn database(&self) -> &Arc<str> {
        &self.database
    }

    fn value(&self, parameter: &Parameter) -> String {
        let set = self.local.get(parameter.name).or_else(|| self.session.get(parameter.name));
        match set {
            Some(value) => value.clone(),
            None if parameter.name == "session_authorization" => self.user.as_ref().to_owned(),
            None => parameter.default.to_owned(),
        }
    }

    fn put(&mut self, parameter: &'static Parameter, value: Option<String>) {
        match value.filter(|value| value != parameter.default) {
            Some(value) => self.session.insert(parameter.name, value),
            None => self.session.remove(parameter.name),
        };
    }

    /// Renews what reads are keyed with.
    fn refresh(&mut self) {
        let settings: Vec<(Cow<'static, str>, Box<str>)> = PARAMETERS
            .iter()
            .filter(|parameter| !parameter.harmless)
            .map(|parameter| (parameter, self.value(parameter)))
            .filter(|(parameter, value)| {
                parameter.name != "session_authorization" && value != parameter.default
            })
            .map(|(parameter, value)| (Cow::Borrowed(parameter.name), value.into_boxed_str()))
            .collect();
        if *self.decisive != *settings {
            self.decisive = settings.into();
        }
    }
}

fn lookup(name: &str) -> Result<&'static Parameter, SqlError> {
    find(name).ok_or_else(|| {
        if name.contains('.') {
            let reason = format!("custom parameters are not supported: \"{name}\"");
            return SqlError::unsupported(reason);
        }
        let message = format!("unrecognized configuration parameter \"{name}\"");
        SqlError::new(state::UNDEFINED_OBJECT, message)
    })
}

/// The words of a command line, each as it stands there and as it is meant: a backslash makes the
/// next character an ordinary one.
fn words(line: &str) -> impl Iterator<Item = (&str, String)> {
    let mut is_escaped = false;
    let ends = move |character: char| {
        // As C's `isspace`.
        let is_blank = character.is_ascii_whitespace() || character == '\u{b}';
        let ends = is_blank && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        ends
    };
    line.split(ends).filter(|word| !word.is_empty()).map(|word| {
        let mut meant = String::with_capacity(word.len());
        let mut characters = word.chars();
        while let Some(character) = characters.next() {
            meant.extend(if character == '\\' { characters.next() } else { Some(character) });
        }
        (word, meant)
    })
}

/// The parameters in a command line.
fn options(line: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut words = words(line).map(|(_, word)| word);
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c") {
            Some("") => words.next(),
            Some(setting) => Some(setting.to_owned()),
            None => word.strip_prefix("--").map(str::to_owned),
        };
        let pair = setting.as_deref().and_then(|setting| setting.split_once('='));
        let Some((name, value)) = pair else {
            let message = format!("invalid command-line argument for server process: {word}");
            return Err(SqlError::new(state::SYNTAX_ERROR, message));
        };
        found.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
