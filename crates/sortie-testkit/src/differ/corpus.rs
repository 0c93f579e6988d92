//! All scripts, and the tables they read.

use super::script::Script;

/// The tables that the scripts read and the role that plays them, as SQL for a superuser; to be
/// run once, on the primary.
pub fn prepare() -> &'static str {
    "DO $$ BEGIN\n\
         IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tester') THEN\n\
             CREATE ROLE tester LOGIN;\n\
         END IF;\n\
     END $$;\n\
     GRANT CREATE, USAGE ON SCHEMA public TO tester;\n\
     GRANT TEMPORARY ON DATABASE postgres TO tester;\n\
     SET ROLE tester;\n\
     CREATE TABLE items (id int4 PRIMARY KEY, label text, price numeric(10, 2), made date);\n\
     INSERT INTO items SELECT n, 'item ' || n, n * 1.25, date '2024-01-01' + n\n\
         FROM generate_series(1, 1000) n;\n\
     CREATE TABLE marks (id int4 PRIMARY KEY, value int4 NOT NULL CHECK (value >= 0), note text)\n\
         WITH (autovacuum_enabled = false);\n\
     CREATE FUNCTION fail_at(n int4, bad int4) RETURNS int4 LANGUAGE plpgsql AS $$\n\
         BEGIN IF n = bad THEN RAISE EXCEPTION 'bad % here', n USING ERRCODE = 'P0042'; END IF;\n\
         RETURN n; END $$;\n\
     RESET ROLE;\n"
}

/// Every script, in a fixed order; no two have the same name.
pub fn scripts() -> Vec<Script> {
    let mut all = Vec::new();
    all.extend(super::scripts::simple::all());
    all.extend(super::scripts::extended::all());
    all.extend(super::scripts::errors::all());
    all.extend(super::scripts::pipelines::all());
    all.extend(super::scripts::portals::all());
    all.extend(super::scripts::copy::all());
    all.extend(super::scripts::others::all());
    all.extend(super::scripts::session::all());
    all.extend(super::scripts::startup::all());
    all.extend(super::scripts::large::all());
    all.extend(super::scripts::violations::all());
    all
}
