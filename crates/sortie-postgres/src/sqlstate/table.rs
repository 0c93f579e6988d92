//! The table. A code that is listed whole counts before its class.

/// What a code says, without who was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    /// Deterministic.
    Answer,
    /// A prepared statement is gone.
    Prepared,
    /// Not supported: by PostgreSQL, by a standby, or by a plan that was made too long ago.
    Unsupported,
    /// Something in the schema is missing.
    Schema,
    /// A write, where only reads are taken.
    ReadOnly,
    /// A conflict with somebody else's transaction, or with replay.
    Conflict,
    /// A cancel, whoever asked for it: also a statement's timeout.
    Cancelled,
    /// The server's own trouble.
    Server,
    /// A bug, or damaged memory.
    Internal,
}

pub(super) const TABLE: &[(&str, Rule)] = &[
    ("00", Rule::Answer), // Not errors: completion, warnings, no data.
    ("01", Rule::Answer),
    ("02", Rule::Answer),
    ("03", Rule::Answer),
    ("08", Rule::Server),    // Connections.
    ("08P01", Rule::Answer), // A protocol violation: we would violate it anywhere.
    ("09", Rule::Answer),
    ("0A", Rule::Unsupported),
    ("0B", Rule::Answer),
    ("0F", Rule::Answer),
    ("0L", Rule::Answer),
    ("0P", Rule::Answer),
    ("0Z", Rule::Answer),
    ("10", Rule::Answer), // XQuery, from PostgreSQL 17.
    ("20", Rule::Answer),
    ("21", Rule::Answer),
    ("22", Rule::Answer), // Data.
    ("23", Rule::Answer), // Constraints.
    ("24", Rule::Answer),
    ("25", Rule::Answer), // The state of a transaction.
    ("25006", Rule::ReadOnly),
    ("26", Rule::Prepared),
    ("27", Rule::Answer),
    ("28", Rule::Server), // It does not let us in.
    ("2B", Rule::Answer),
    ("2D", Rule::Answer),
    ("2F", Rule::Answer),
    ("34", Rule::Answer),
    ("38", Rule::Answer),
    ("39", Rule::Answer),
    ("3B", Rule::Answer),
    ("3D", Rule::Schema), // No such database.
    ("3F", Rule::Schema), // No such schema.
    ("40", Rule::Answer), // A transaction was rolled back.
    ("40001", Rule::Conflict),
    ("40P01", Rule::Conflict),
    ("42", Rule::Answer),    // Syntax, names, rights.
    ("42P01", Rule::Schema), // No such table,
    ("42703", Rule::Schema), // column,
    ("42883", Rule::Schema), // function,
    ("42704", Rule::Schema), // or other object.
    ("44", Rule::Answer),
    ("53", Rule::Server),    // Resources.
    ("53400", Rule::Answer), // A limit that somebody has set.
    ("54", Rule::Answer),    // The statement is too large.
    ("55", Rule::Answer),    // Locks and states.
    ("57", Rule::Server),    // An operator intervenes.
    ("57014", Rule::Cancelled),
    ("58", Rule::Server), // Files, the operating system.
    ("72", Rule::Server), // The snapshot is too old; another server's is not.
    ("F0", Rule::Answer),
    ("HV", Rule::Answer), // Foreign data: the same foreign server for all.
    ("P0", Rule::Answer), // Raised on purpose.
    ("XX", Rule::Internal),
    ("XX001", Rule::Server), // Damaged data,
    ("XX002", Rule::Server), // or indexes.
];

/// The rule for a code; an unknown class is somebody's own, raised on purpose.
pub(super) fn rule(code: &str) -> Rule {
    let find = |wanted: &str| TABLE.iter().find(|(name, _)| *name == wanted);
    let class = code.get(..2).filter(|_| code.len() == 5);
    find(code)
        .filter(|_| code.len() == 5)
        .or_else(|| find(class?))
        .map_or(Rule::Answer, |row| row.1)
}
