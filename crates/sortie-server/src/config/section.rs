//! One table of a TOML file: keys are asked for by name, and what nobody asked for is a problem.
//!
//! # Invariants
//!
//! 1. A key that is not known is refused, with where it belongs, or the nearest known one.
//! 2. Reading goes on after a problem, so that all are reported at once.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use super::problem::Problems;
use super::value::{Value, kind};

/// A table that is being read.
#[derive(Debug)]
pub(super) struct Section<'s, 't> {
    table: &'s DeTable<'t>,
    span: Range<usize>,
    problems: &'s Problems<'s>,
    known: RefCell<Vec<&'static str>>,
    /// Keys that people write here, and that belong elsewhere: which, and where to.
    misplaced: RefCell<Vec<(&'static [&'static str], String)>>,
}

impl<'s, 't> Section<'s, 't> {
    /// Lets `read` ask for the keys of a table, then reports those that it did not ask for.
    pub(super) fn read<T>(
        table: &'s DeTable<'t>,
        span: Range<usize>,
        problems: &'s Problems<'s>,
        read: impl FnOnce(&Self) -> T,
    ) -> T {
        let (known, misplaced) = Default::default();
        let section = Self { table, span, problems, known, misplaced };
        let result = read(&section);
        section.refuse_unknown();
        result
    }

    /// Overwrites `place` if there is a value that can be read.
    pub(super) fn set<T: Value>(&self, key: &'static str, place: &mut T) {
        if let Some((value, _span)) = self.value(key) {
            *place = value;
        }
    }

    /// As [`set`](Self::set), for a number in a range.
    pub(super) fn set_within(
        &self,
        key: &'static str,
        place: &mut u32,
        range: std::ops::RangeInclusive<u32>,
    ) {
        if let Some((value, span)) = self.value(key) {
            if range.contains(&value) {
                *place = value;
            } else {
                let (from, to) = (range.start(), range.end());
                self.problem(span, format!("`{key}` must be from {from} to {to}"));
            }
        }
    }

    /// A value and where it stands.
    pub(super) fn value<T: Value>(&self, key: &'static str) -> Option<(T, Range<usize>)> {
        let value = self.get(key)?;
        match T::read(value.get_ref()) {
            Ok(read) => Some((read, value.span())),
            Err(right) => {
                self.problem(value.span(), format!("`{key}`: {right}"));
                None
            }
        }
    }

    /// A list of strings, each with its place; empty if there is none.
    pub(super) fn strings(&self, key: &'static str) -> Vec<(String, Range<usize>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let mut strings = Vec::new();
        let Some(list) = value.get_ref().as_array() else {
            let kind = kind(value.get_ref());
            self.problem(value.span(), format!("`{key}` must be a list of strings, not {kind}"));
            return strings;
        };
        for item in list {
            match item.get_ref().as_str() {
                Some(text) => strings.push((text.to_owned(), item.span())),
                None => self.problem(item.span(), format!("`{key}` holds strings only")),
            }
        }
        strings
    }

    /// A table whose keys are names, each with a list of strings.
    pub(super) fn named_strings(&self, key: &'static str) -> Vec<(String, Vec<String>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.not_a_table(key, value);
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, list) in table {
            let items = list.get_ref().as_array().map_or(&[][..], |items| items);
            let strings = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            let strings: Option<Vec<String>> = strings.collect();
            let name = name.get_ref();
            if let Some(strings) = strings.filter(|strings| !strings.is_empty()) {
                named.push((name.to_string(), strings));
            } else {
                let text = format!("`{key}.{name}` must be a list of strings, one at least");
                self.problem(list.span(), text);
            }
        }
        named
    }

    /// Reads the table under a key, if there is one.
    pub(super) fn section(&self, key: &'static str, read: impl FnOnce(&Section<'s, 't>)) {
        let Some(value) = self.get(key) else { return };
        match value.get_ref().as_table() {
            Some(table) => Section::read(table, value.span(), self.problems, read),
            None => self.not_a_table(key, value),
        }
    }

    /// Reads each table of a table of tables, whose keys are names: in the order of the text.
    pub(super) fn named<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&str, &Section<'s, 't>) -> T,
    ) -> Vec<T> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(tables) = value.get_ref().as_table() else {
            self.not_a_table(key, value);
            return Vec::new();
        };
        let mut entries: Vec<_> = tables.iter().collect();
        entries.sort_by_key(|(name, _value)| name.span().start);
        let mut results = Vec::new();
        for (name, value) in entries {
            match value.get_ref().as_table() {
                Some(table) => {
                    let read = |section: &Section<'s, 't>| read(name.get_ref(), section);
                    results.push(Section::read(table, name.span(), self.problems, read));
                }
                None => self.not_a_table(&format!("{key}.{}", name.get_ref()), value),
            }
        }
        results
    }

    /// Reads each table of a list of tables.
    pub(super) fn listed<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&Section<'s, 't>) -> T,
    ) -> Vec<T> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let items = value.get_ref().as_array().map(|items| items.iter());
        let Some(items) = items else {
            let text = format!("`{key}` is a list of tables: write `[[…{key}]]` for each of them");
            self.problem(value.span(), text);
            return Vec::new();
        };
        let mut results = Vec::new();
        for item in items {
            match item.get_ref().as_table() {
                Some(table) => {
                    results.push(Section::read(table, item.span(), self.problems, &mut read));
                }
                None => self.not_a_table(key, item),
            }
        }
        results
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// As [`has`](Self::has), and it is not an empty list.
    pub(super) fn has_any(&self, key: &'static str) -> bool {
        let list = self.get(key).map(|value| value.get_ref().as_array());
        list.is_some_and(|list| list.is_none_or(|list| !list.is_empty()))
    }

    /// Says where these keys belong, should one of them be here.
    pub(super) fn elsewhere(&self, keys: &'static [&'static str], place: impl Into<String>) {
        self.misplaced.borrow_mut().push((keys, place.into()));
    }

    /// Where a key's value stands; where the table begins if there is none.
    pub(super) fn value_span(&self, key: &'static str) -> Range<usize> {
        self.get(key).map_or(self.span(), Spanned::span)
    }

    /// Reports a problem that has no place of its own.
    pub(super) fn whole_problem(&self, what: impl Into<String>) {
        self.problems.add_whole(what);
    }

    /// Where this table begins.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Reports a problem somewhere in this table.
    pub(super) fn problem(&self, span: Range<usize>, what: impl Into<String>) {
        self.problems.add(span, what);
    }

    fn get(&self, key: &'static str) -> Option<&'s Spanned<DeValue<'t>>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.table.get(key)
    }

    fn not_a_table(&self, key: &str, value: &Spanned<DeValue<'_>>) {
        let text = format!("`{key}` must be a table, not {}", kind(value.get_ref()));
        self.problem(value.span(), text);
    }

    fn refuse_unknown(&self) {
        let known = self.known.borrow();
        for (key, _value) in self.table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let misplaced = self.misplaced.borrow();
            let place = misplaced.iter().find(|(keys, _)| keys.contains(&name));
            let right = match (place, nearest(name, &known)) {
                (Some((_, place)), _) => format!("it belongs {place}"),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("known here: {}", known.join(", ")),
            };
            self.problem(key.span(), format!("unknown key `{name}`; {right}"));
        }
    }
}
