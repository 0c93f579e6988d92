//! The PostgreSQL wire protocol for sortie: frames, sans-IO.
