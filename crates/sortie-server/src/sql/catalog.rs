//! The tables a statement may name: their columns, types and shard key.

use crate::sql::types::Type;

/// All tables of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    tables: Vec<Table>,
}

/// One sharded table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<TableColumn>,
    /// Index of the column whose hash places a row on its shard; its type is `int8`.
    pub(crate) key: usize,
}

/// One column of a table. Every column is NOT NULL.
#[derive(Clone, Debug)]
pub(crate) struct TableColumn {
    pub(crate) name: &'static str,
    pub(crate) ty: Type,
}

impl Catalog {
    /// The embedded cluster's one table, `users(user_id, name, balance)`, sharded by `user_id`.
    pub(crate) fn embedded() -> Self {
        let column = |name, ty| TableColumn { name, ty };
        Self {
            tables: vec![Table {
                name: "users",
                columns: vec![
                    column("user_id", Type::Int8),
                    column("name", Type::Text),
                    column("balance", Type::Int8),
                ],
                key: 0,
            }],
        }
    }

    /// The table with this name, already folded to lower case where it was not quoted.
    pub(crate) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }
}

impl Table {
    /// Index of the column with this name.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}
