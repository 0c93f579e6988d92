//! What a server reports about a session's parameters.

use bytes::Bytes;

/// The parameters that a server reports by itself, as last reported. A dozen or so.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parameters {
    values: Vec<(Bytes, Bytes)>,
}

/// More parameters than any server reports; further ones are not kept.
const PARAMETERS_MAX: usize = 256;

impl Parameters {
    pub(super) fn of(reported: &[(Bytes, Bytes)]) -> Self {
        let mut parameters = Self::default();
        for (name, value) in reported {
            // Not slices of the read buffer, which they would pin.
            parameters.put(name, value);
        }
        parameters
    }

    /// The value of a parameter, for example `server_version`.
    pub fn value(&self, name: &str) -> Option<&Bytes> {
        self.iter().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
    }

    /// Names and values, in the order in which they were first reported.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.values.iter().map(|(name, value)| (name, value))
    }

    /// Takes the body of a `ParameterStatus` in.
    pub(super) fn update(&mut self, body: &[u8]) {
        let mut texts = body.split(|byte| *byte == 0);
        if let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            self.put(name, value);
        }
    }

    fn put(&mut self, name: &[u8], value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        if let Some((_, known)) = self.values.iter_mut().find(|(known, _)| *known == name) {
            *known = value;
        } else if self.values.len() < PARAMETERS_MAX {
            self.values.push((Bytes::copy_from_slice(name), value));
        }
    }
}
