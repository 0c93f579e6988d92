//! A model of a PostgreSQL session: it knows parameters, prepared statements, transactions and
//! errors.

use std::collections::BTreeMap;

use sortie_postgres::backend::Status;

use crate::relay::frames;

/// What a PostgreSQL session holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Model {
    parameters: BTreeMap<String, String>,
    statements: BTreeMap<String, String>,
    /// The statement of the unnamed portal.
    portal: Option<String>,
    /// Parameters as they were before the transaction block.
    block: Option<BTreeMap<String, String>>,
    /// And before the batch, whose messages are one transaction.
    implicit: Option<BTreeMap<String, String>>,
    failed: bool,
    skipping: bool,
    temporary: u32,
}

/// A frame that the model answers with: its type, and what it shows.
pub(super) type Answer = (u8, String);

impl Model {
    pub(super) fn status(&self) -> Status {
        match (&self.block, self.failed) {
            (None, _) => Status::Idle,
            (Some(_), false) => Status::Transaction,
            (Some(_), true) => Status::Failed,
        }
    }

    /// Executes frames.
    pub(super) fn take(&mut self, mut bytes: &[u8], answers: &mut Vec<Answer>) {
        while let Ok(Some(head)) = frames::head(bytes) {
            let (frame, rest) = bytes.split_at(head.len);
            bytes = rest;
            if self.skipping && head.tag != b'S' {
                continue;
            }
            match head.tag {
                b'S' => {
                    self.skipping = false;
                    self.implicit = None;
                    self.ready(answers);
                }
                b'Q' => {
                    self.statements.remove("");
                    let text = frames::text(&frame[5..]).unwrap().0;
                    if let Err(error) = self.run(&shown(text), answers) {
                        self.fail(error, answers);
                    }
                    // It ends what was begun without a Sync as a Sync does.
                    self.implicit = None;
                    self.ready(answers);
                }
                b'H' => {}
                _ => {
                    if self.block.is_none() {
                        self.implicit.get_or_insert_with(|| self.parameters.clone());
                    }
                    if let Err(error) = self.extended(frame, answers) {
                        self.fail(error, answers);
                        self.skipping = true;
                    }
                }
            }
        }
    }

    fn ready(&mut self, answers: &mut Vec<Answer>) {
        if self.block.is_none() {
            self.portal = None;
        }
        answers.push((b'Z', format!("{:?}", self.status())));
    }

    fn fail(&mut self, error: &str, answers: &mut Vec<Answer>) {
        self.failed = self.block.is_some();
        if !self.failed
            && let Some(before) = self.implicit.take()
        {
            self.parameters = before;
        }
        answers.push((b'E', error.to_owned()));
    }

    fn extended(&mut self, frame: &[u8], answers: &mut Vec<Answer>) -> Result<(), &'static str> {
        match frame[0] {
            b'P' => {
                let parse = frames::parse(frame).unwrap();
                let name = shown(parse.name);
                if name.is_empty() {
                    self.statements.remove("");
                }
                if parse.text == b"broken" {
                    return Err("42601");
                }
                if self.failed && parse.text != b"rollback" {
                    return Err("25P02");
                }
                if !name.is_empty() && self.statements.contains_key(&name) {
                    return Err("42P05");
                }
                self.statements.insert(name, shown(parse.text));
                answers.push((b'1', String::new()));
            }
            b'B' => {
                let name = shown(frames::bind(frame).unwrap().1);
                let text = self.statements.get(&name).ok_or("26000")?;
                if self.failed && text != "rollback" {
                    return Err("25P02");
                }
                self.portal = Some(text.clone());
                answers.push((b'2', String::new()));
            }
            b'E' => {
                let text = self.portal.clone().ok_or("34000")?;
                self.run(&text, answers)?;
            }
            b'C' => {
                self.statements.remove(&shown(frames::target(frame).unwrap().1));
                answers.push((b'3', String::new()));
            }
            other => panic!("{}", char::from(other)),
        }
        Ok(())
    }

    fn run(&mut self, text: &str, answers: &mut Vec<Answer>) -> Result<(), &'static str> {
        if self.failed && text != "rollback" {
            return Err("25P02");
        }
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            ["set", name, "=", value] => {
                self.parameters.insert(name.into(), value.into());
            }
            ["reset", "all"] => self.parameters.clear(),
            ["reset", name] => {
                self.parameters.remove(name);
            }
            ["discard", "all"] | ["DISCARD", "ALL"] if self.block.is_some() => return Err("25001"),
            ["discard", "all"] | ["DISCARD", "ALL"] => {
                let unnamed = self.statements.remove_entry("");
                *self = Self { statements: unnamed.into_iter().collect(), ..Self::default() };
            }
            ["DEALLOCATE", "ALL"] => self.statements.retain(|name, _| name.is_empty()),
            ["deallocate", name] => {
                self.statements.remove(name).ok_or("26000")?;
            }
            ["begin"] => {
                let before = self.implicit.take().unwrap_or_else(|| self.parameters.clone());
                self.block.get_or_insert(before);
            }
            ["rollback"] => {
                let before = self.block.take().or(self.implicit.take());
                self.parameters = before.unwrap_or_else(|| self.parameters.clone());
                self.failed = false;
            }
            ["commit"] => (self.block, self.implicit) = (None, None),
            ["create", "temp", ..] => self.temporary += 1,
            // Shows all there is: what somebody else left would be seen here.
            ["select", ..] => {
                answers.push((b'D', format!("{:?} {}", self.parameters, self.temporary)));
            }
            _ => return Err("42601"),
        }
        answers.push((b'C', text.to_owned()));
        Ok(())
    }
}

pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
