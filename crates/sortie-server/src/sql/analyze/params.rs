//! Types of parameters: declared, or taken from what they first meet.

use crate::sql::error::{SqlError, state};
use crate::sql::types::Type;

/// Parameters of one statement, as PostgreSQL's "variable parameters" work.
pub(super) struct Params {
    /// False for a simple query, which has none.
    allowed: bool,
    types: Vec<Option<Type>>,
}

/// Parameters of one statement; the protocol counts them in 16 bits.
const PARAMS_MAX: u32 = 65_535;

impl Params {
    /// # Errors
    ///
    /// 0A000 for a declared type that is not served.
    pub(super) fn new(oids: Option<&[u32]>) -> Result<Self, SqlError> {
        let declared = oids.unwrap_or_default().iter().zip(1..);
        let ty = |(oid, number): (&u32, u32)| {
            Type::from_oid(*oid).map_err(|oid| {
                let reason =
                    format!("parameter ${number} has type OID {oid}, which is not supported");
                SqlError::unsupported(reason)
            })
        };
        Ok(Self { allowed: oids.is_some(), types: declared.map(ty).collect::<Result<_, _>>()? })
    }

    /// The index of `$number` and the type it has so far.
    ///
    /// # Errors
    ///
    /// 42P02 if there can't be such a parameter.
    pub(super) fn refer(&mut self, number: u32) -> Result<(usize, Option<Type>), SqlError> {
        if !self.allowed || number == 0 || number > PARAMS_MAX {
            let message = format!("there is no parameter ${number}");
            return Err(SqlError::new(state::UNDEFINED_PARAMETER, message));
        }
        let index = usize::try_from(number - 1).expect("at most 65,535");
        if index >= self.types.len() {
            self.types.resize(index + 1, None);
        }
        Ok((index, self.types[index]))
    }

    /// Gives a parameter its type, unless it has one.
    pub(super) fn determine(&mut self, index: usize, ty: Type) {
        self.types[index].get_or_insert(ty);
    }

    /// All types, now that every use is known.
    ///
    /// # Errors
    ///
    /// 42P18 for a parameter whose type nothing told.
    pub(super) fn finish(self) -> Result<Vec<Type>, SqlError> {
        let types = self.types.into_iter().zip(1..);
        types
            .map(|(ty, number)| {
                ty.ok_or_else(|| {
                    let message = format!("could not determine data type of parameter ${number}");
                    SqlError::new(state::INDETERMINATE_DATATYPE, message)
                })
            })
            .collect()
    }
}
