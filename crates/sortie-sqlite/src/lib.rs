//! An embedded cluster of SQLite files, with injectable trouble, for sortie.
