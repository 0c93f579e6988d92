//! The sample table, as SQL.
//!
//! The rule is the embedded cluster's: which names and balances there are, and which shard has
//! them, follows from the id. A test compares every row with `sortie_sqlite` and `ShardMap`.

/// Creates the role and the database. Owning the database, the role may write on a primary.
pub(crate) const DATABASE: &str = "CREATE ROLE reader LOGIN IN ROLE pg_monitor;\n\
                                   CREATE DATABASE sortie OWNER reader;\n";

/// Sixteen first names and sixteen last names; a user's are picked by the id's digits base 16.
const FIRST_NAMES: &str = "{Ada,Alan,Barbara,Dennis,Edsger,Frances,Grace,Jim,Kathleen,Ken,\
                           Leslie,Niklaus,Radia,Robin,Søren,Zoë}";
const LAST_NAMES: &str = "{Adler,Baker,Carter,Dyer,Fisher,Glover,Hunter,Joiner,Keeler,Mason,\
                          Nílsson,Porter,Sawyer,Tanner,Weaver,Young}";

/// Returns the script that creates and fills the table of one shard.
///
/// The server itself says which rows are the shard's: a partitioned table that lives as long as
/// the session stands for the cluster.
pub(crate) fn table(rows: u32, shards: u32, shard: u32) -> String {
    format!(
        "SET ROLE reader;
         CREATE TABLE users(
             user_id int8 PRIMARY KEY,
             name text COLLATE \"C\" NOT NULL,
             balance int8 NOT NULL
         );
         CREATE TEMPORARY TABLE cluster(user_id int8) PARTITION BY HASH (user_id);
         INSERT INTO users
             SELECT id,
                    ('{FIRST_NAMES}'::text[])[1 + id % 16] || ' ' ||
                    ('{LAST_NAMES}'::text[])[1 + id / 16 % 16],
                    id * 7919 % 10007 - 1000
             FROM generate_series(1, {rows}::int8) AS id
             WHERE satisfies_hash_partition('cluster'::regclass, {shards}, {shard}, id);
         VACUUM (ANALYZE, FREEZE) users;\n"
    )
}
