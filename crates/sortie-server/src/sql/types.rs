//! The types a statement may have, as PostgreSQL numbers and names them.

/// A type of a parameter, a constant or a result column.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Type {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Text,
    Varchar,
    Name,
    Array(Element),
    /// Another type: its values are only carried, never looked at.
    Other {
        oid: u32,
        size: i16,
    },
}

/// What an array parameter may hold.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Element {
    Int2,
    Int4,
    Int8,
    Numeric,
    Text,
    Varchar,
}

/// One column of a result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) ty: Type,
}

/// OID of `unknown`: a parameter declared with it is inferred, as with OID 0.
const UNKNOWN: u32 = 705;

impl Type {
    /// Every type that is understood, once: what [`Type::from_oid`] searches.
    const ALL: [Self; 14] = [
        Self::Bool,
        Self::Int2,
        Self::Int4,
        Self::Int8,
        Self::Numeric,
        Self::Text,
        Self::Varchar,
        Self::Name,
        Self::Array(Element::Int2),
        Self::Array(Element::Int4),
        Self::Array(Element::Int8),
        Self::Array(Element::Numeric),
        Self::Array(Element::Text),
        Self::Array(Element::Varchar),
    ];

    /// The type a client declared: `Ok(None)` for 0 and `unknown`, `Err` for one not served.
    pub(crate) fn from_oid(oid: u32) -> Result<Option<Self>, u32> {
        match oid {
            0 | UNKNOWN => Ok(None),
            oid => Self::ALL.into_iter().find(|ty| ty.oid() == oid).map(Some).ok_or(oid),
        }
    }

    /// OID in `pg_type`.
    pub(crate) fn oid(self) -> u32 {
        match self {
            Self::Bool => 16,
            Self::Name => 19,
            Self::Int8 => 20,
            Self::Int2 => 21,
            Self::Int4 => 23,
            Self::Text => 25,
            Self::Array(Element::Int2) => 1005,
            Self::Array(Element::Int4) => 1007,
            Self::Array(Element::Text) => 1009,
            Self::Array(Element::Varchar) => 1015,
            Self::Array(Element::Int8) => 1016,
            Self::Varchar => 1043,
            Self::Array(Element::Numeric) => 1231,
            Self::Numeric => 1700,
            Self::Other { oid, .. } => oid,
        }
    }

    /// `typlen`: the width in bytes, -1 where it varies.
    pub(crate) fn size(self) -> i16 {
        match self {
            Self::Bool => 1,
            Self::Int2 => 2,
            Self::Int4 => 4,
            Self::Int8 => 8,
            Self::Name => 64,
            Self::Other { size, .. } => size,
            Self::Numeric | Self::Text | Self::Varchar | Self::Array(_) => -1,
        }
    }

    /// The name PostgreSQL's messages use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Varchar => "character varying",
            Self::Name => "name",
            Self::Array(Element::Int2) => "smallint[]",
            Self::Array(Element::Int4) => "integer[]",
            Self::Array(Element::Int8) => "bigint[]",
            Self::Array(Element::Numeric) => "numeric[]",
            Self::Array(Element::Text) => "text[]",
            Self::Array(Element::Varchar) => "character varying[]",
            Self::Other { .. } => "another type",
        }
    }

    /// Place in the order of implicit widening, for numbers; `None` for everything else.
    pub(crate) fn width(self) -> Option<u8> {
        match self {
            Self::Int2 => Some(0),
            Self::Int4 => Some(1),
            Self::Int8 => Some(2),
            Self::Numeric => Some(3),
            _ => None,
        }
    }

    /// The type of a table's column: one that is not understood is carried.
    pub(crate) fn of_column(oid: u32, size: i16) -> Self {
        let known = Self::ALL.into_iter().find(|ty| ty.oid() == oid);
        known.filter(|ty| !matches!(ty, Self::Array(_))).unwrap_or(Self::Other { oid, size })
    }

    /// True for the types that compare as text.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Varchar | Self::Name)
    }

    /// The array of this type, where one is served.
    pub(crate) fn array(self) -> Option<Self> {
        Element::ALL.into_iter().find(|element| element.ty() == self).map(Self::Array)
    }
}

impl Element {
    const ALL: [Self; 6] =
        [Self::Int2, Self::Int4, Self::Int8, Self::Numeric, Self::Text, Self::Varchar];

    /// The type of one element.
    pub(crate) fn ty(self) -> Type {
        match self {
            Self::Int2 => Type::Int2,
            Self::Int4 => Type::Int4,
            Self::Int8 => Type::Int8,
            Self::Numeric => Type::Numeric,
            Self::Text => Type::Text,
            Self::Varchar => Type::Varchar,
        }
    }
}
