//! Looking at a cluster's databases: what the servers' own catalogs say.
//!
//! Each shard is asked, and of each shard all servers that answer: one that lags behind, or has
//! what its standbys will have soon, may be read from as well. What is not the same on all of them
//! is nobody's. Objects that were made after `initdb` have numbers from 16,384 on.
//!
//! Each look has a connection of its own, beside the server's pool: that may be full, and then a
//! session would lose one that it means to have again.

use std::borrow::Cow;
use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use sortie_postgres::{Body, Login, PoolConfig, Pooled, Request, Server};
use tokio::time::{Instant, sleep, timeout};

use super::raw::{RawBody, RawColumn, RawFunction, RawRelation, RawShard};
use crate::config::TableConfig;
use crate::read::{checkout, values_of_rows};
use crate::sql::{Collation, Known, Type};

/// How long looking at one shard may take.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// How long is waited for a shard's other servers once one has been looked at.
const OTHERS_MAX: Duration = Duration::from_secs(2);
/// Bytes of one answer.
const ANSWER_MAX: usize = 64 << 20;
/// The name of the connections that look.
const APPLICATION: &str = "sortie look";

const RELATIONS: &str = "
    SELECT n.nspname, c.relname, c.oid,
      CASE
        WHEN n.nspname = 'pg_catalog' THEN 'builtin'
        WHEN n.nspname = 'information_schema' THEN 'system'
        WHEN c.relkind = 'v' THEN 'a view'
        WHEN c.relkind = 'm' THEN 'a materialized view'
        WHEN c.relkind = 'f' THEN 'a foreign table'
        WHEN c.relkind = 'S' THEN 'a sequence'
        WHEN c.relkind = 'c' THEN 'a type'
        WHEN c.relpersistence <> 'p' THEN 'an unlogged table'
        WHEN c.relkind = 'r' AND c.relhassubclass THEN 'a table with children'
        WHEN c.relkind = 'p' AND EXISTS (
          SELECT FROM pg_catalog.pg_partition_tree(c.oid) t
          JOIN pg_catalog.pg_class k ON k.oid = t.relid WHERE k.relkind NOT IN ('r', 'p')
        ) THEN 'a table with foreign partitions'
        WHEN c.relrowsecurity THEN 'a table with row security'
        ELSE 'table'
      END
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND n.nspname !~ '^pg_(toast|temp)'";

/// What stands behind a relation: a view's query, and a query with the condition of each policy by
/// which rows are seen. Everybody may read them.
const DEFINITIONS: &str = "
    SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid) AS definition
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'v' AND c.oid >= 16384 AND n.nspname !~ '^pg_'
    UNION ALL
    SELECT p.polrelid, 'SELECT WHERE ' || pg_catalog.pg_get_expr(p.polqual, p.polrelid)
    FROM pg_catalog.pg_policy p WHERE p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL
    LIMIT 2001";
/// Where there are more, none is looked at.
const DEFINITIONS_MAX: usize = 2_000;

const COLUMNS: &str = "
    SELECT a.attrelid, a.attname, a.attnum, a.atttypid, t.typlen, a.atttypmod, a.attnotnull,
      CASE
        WHEN a.attcollation = 0 THEN 'bytes'
        WHEN l.oid = 100 THEN 'default'
        WHEN l.collnamespace = 'pg_catalog'::regnamespace AND l.collname IN ('C', 'POSIX')
          THEN 'bytes'
        WHEN l.collisdeterministic THEN 'deterministic'
        ELSE 'other'
      END
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY a.attrelid, a.attnum";

const FUNCTIONS: &str = "
    SELECT p.proname, bool_or(p.provolatile = 'v'), bool_or(p.oid >= 16384),
      bool_or(p.provolatile <> 'i'),
      bool_or(p.oid >= 16384 AND p.pronargs > 0 AND p.pronargs - p.pronargdefaults <= 1
        AND EXISTS (SELECT FROM pg_catalog.pg_type t
          WHERE t.oid = p.proargtypes[0] AND (t.typtype = 'c' OR t.typname = 'record'))),
      bool_or(p.oid < 16384), count(*) FILTER (WHERE p.oid >= 16384),
      bool_or(CASE WHEN p.oid < 16384 THEN false
        WHEN p.prokind <> 'a' THEN p.prolang NOT IN (12, 13)
        ELSE EXISTS (SELECT FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc f ON f.oid IN
            (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
          WHERE a.aggfnoid = p.oid AND f.prolang NOT IN (12, 13)) END)
    FROM pg_catalog.pg_proc p GROUP BY p.proname";

/// The functions in SQL (14), with the queries of arguments that are left out. Not those that run
/// with other parameters than where they are looked for, and not those whose arguments or results
/// are of types that may call something by themselves.
const BODIES: &str = "
    SELECT p.proname, p.provolatile = 'i',
      coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc),
      'SELECT ' || pg_catalog.pg_get_expr(p.proargdefaults, 0)
    FROM pg_catalog.pg_proc p
    WHERE p.oid >= 16384 AND p.prolang = 14 AND p.prokind = 'f'
      AND pg_catalog.length(p.prosrc) <= 16384
      AND NOT EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) x
        WHERE NOT pg_catalog.starts_with(x, 'search_path='))
      AND NOT EXISTS (SELECT FROM pg_catalog.unnest(
          coalesce(p.proallargtypes, p.proargtypes::oid[]) || p.prorettype) x (oid)
        JOIN pg_catalog.pg_type t USING (oid)
        WHERE NOT CASE t.typtype WHEN 'e' THEN true
          WHEN 'c' THEN t.oid <> p.prorettype AND p.proallargtypes IS NULL
          WHEN 'p' THEN t.oid IN ('record'::regtype, 'void'::regtype)
          ELSE t.oid < 16384 END)
    LIMIT 2001";
/// Where there are more, none is read.
const BODIES_MAX: usize = 2_000;

const TYPES: &str = "
    SELECT t.typname FROM pg_catalog.pg_type t
    WHERE t.oid >= 16384 AND t.typrelid = 0 AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typrelid <> 0)";

const OPERATORS: &str = "
    SELECT DISTINCT o.oprname FROM pg_catalog.pg_operator o
    JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE o.oid >= 16384 AND l.lanname NOT IN ('internal', 'c')";

/// Whether texts compare by their bytes, whether anything that statements are judged by is other
/// than PostgreSQL made it (or calls, unnamed, what somebody wrote), whether everybody's
/// transactions read what is committed, what the defaults of roles and databases are, and whether
/// the server is one that can show the bodies of functions.
const RULES: &str = "
    SELECT d.datcollate IN ('C', 'POSIX')
        AND coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') = 'c',
      pg_catalog.pg_encoding_to_char(d.encoding) <> 'UTF8'
      OR pg_catalog.current_setting('standard_conforming_strings') <> 'on'
      OR EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) x
        WHERE s.setdatabase IN (0, d.oid)
        AND pg_catalog.split_part(x, '=', 1) IN ('standard_conforming_strings',
          'client_encoding', 'transform_null_equals', 'array_nulls')
        AND pg_catalog.lower(x) NOT IN ('standard_conforming_strings=on', 'client_encoding=utf8',
          'client_encoding=utf-8', 'client_encoding=unicode', 'transform_null_equals=off',
          'array_nulls=on'))
      OR EXISTS (SELECT FROM pg_catalog.pg_operator o
        WHERE o.oid >= 16384 AND o.oprleft < 16384 AND o.oprright < 16384
        AND o.oprname IN ('=', '<>', '<', '<=', '>', '>=', '+', '-'))
      OR EXISTS (SELECT FROM pg_catalog.pg_proc p
        WHERE p.oid >= 16384 AND p.proname IN ('count', 'sum', 'min', 'max')
        AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) x WHERE x >= 16384))
      OR EXISTS (SELECT FROM pg_catalog.pg_cast c
        WHERE c.oid >= 16384 AND c.castsource < 16384 AND c.casttarget < 16384)
      OR EXISTS (SELECT FROM (
          SELECT c.castfunc FROM pg_catalog.pg_cast c WHERE c.oid >= 16384
          UNION ALL SELECT o.oprcode FROM pg_catalog.pg_operator o WHERE o.oid >= 16384
          AND o.oprname IN ('=', '<>', '<', '<=', '>', '>=', '~~', '!~~', '~~*', '!~~*', '~')
        ) f (oid) JOIN pg_catalog.pg_proc p ON p.oid = f.oid
        JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        WHERE l.lanname NOT IN ('internal', 'c')),
      pg_catalog.current_setting('default_transaction_isolation')
        IN ('read committed', 'read uncommitted')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) x
        WHERE s.setdatabase IN (0, d.oid)
        AND pg_catalog.split_part(x, '=', 1) = 'default_transaction_isolation'
        AND pg_catalog.lower(x) NOT IN ('default_transaction_isolation=read committed',
          'default_transaction_isolation=read uncommitted')),
      (SELECT pg_catalog.md5(pg_catalog.string_agg(s::text, ';' ORDER BY s.setrole, s.setdatabase))
        FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase IN (0, d.oid)),
      pg_catalog.current_setting('server_version_num')::int >= 140000
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// Why a cluster could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// No server of a shard answered; this is what the last one said.
    #[error("no server of shard {shard} can be looked at: {reason}")]
    Unreachable { shard: usize, reason: String },
}

/// A server that is looked at.
#[derive(Debug)]
pub(crate) struct Looked {
    pool: Server,
    beside: Server,
}

impl Looked {
    /// A server with this pool.
    pub(crate) fn new(pool: &Server) -> Self {
        let mut config = PoolConfig::default();
        (config.size_max, config.warm_min) = (1, 0);
        Self { pool: pool.clone(), beside: Server::new(pool.info().clone(), config) }
    }

    /// See [`Server::retire`].
    pub(crate) fn retire(&self) {
        self.pool.retire();
    }

    /// A connection for one look. Where the server lets no more in it is one of the pool's: what
    /// is known must not be outdated for that.
    async fn connect(&self, deadline: Instant) -> Result<Pooled, String> {
        let login = Login::of(self.pool.info());
        let named = login.clone().parameter("application_name", APPLICATION);
        if let Ok(mut own) = self.beside.checkout(&named, None, deadline).await {
            // The next look goes wherever the server's name leads then.
            own.doom();
            return Ok(own);
        }
        checkout(&self.pool, &login, deadline).await.map_err(|error| error.to_string())
    }
}

/// Looks at every shard, through all of its servers that answer soon.
///
/// # Errors
///
/// [`LookError`].
///
/// # Cancel safety
///
/// Dropping the future calls its statements back.
pub(crate) async fn look(
    shards: &[Vec<Looked>],
    tables: &[TableConfig],
) -> Result<Known, LookError> {
    let mut raw = Vec::new();
    for looked in join_all(shards.iter().enumerate().map(look_at_shard)).await {
        raw.extend(looked?);
    }
    Ok(super::raw::known(&raw, tables))
}

async fn look_at_shard(
    (shard, servers): (usize, &Vec<Looked>),
) -> Result<Vec<RawShard>, LookError> {
    let mut looking: FuturesUnordered<_> =
        servers.iter().map(|server| timeout(LOOK_MAX, look_at(server))).collect();
    let mut found = Vec::new();
    let mut reason = "it has none".to_owned();
    let mut others = pin!(sleep(LOOK_MAX));
    loop {
        let looked = tokio::select! {
            looked = looking.next() => looked,
            () = &mut others, if !found.is_empty() => None,
        };
        match looked {
            Some(Ok(Ok(raw))) => {
                if found.is_empty() {
                    others.as_mut().reset(Instant::now() + OTHERS_MAX);
                }
                found.push(raw);
            }
            Some(Ok(Err(error))) => reason = error,
            Some(Err(_elapsed)) => reason = format!("no answer within {LOOK_MAX:?}"),
            None if found.is_empty() => return Err(LookError::Unreachable { shard, reason }),
            None => return Ok(found),
        }
    }
}

async fn look_at(server: &Looked) -> Result<RawShard, String> {
    let mut server = server.connect(Instant::now() + LOOK_MAX).await?;
    let mut shard = RawShard::default();
    let mut shows_bodies = false;
    for row in ask(&mut server, RULES).await? {
        (shard.bytewise, shard.overridden) = (flag(&row, 0), flag(&row, 1));
        shard.reads_committed = flag(&row, 2);
        shard.defaults = text(&row, 3).into();
        shows_bodies = flag(&row, 4);
    }
    for row in ask(&mut server, RELATIONS).await? {
        let relation = RawRelation { oid: number(&row, 2), kind: text(&row, 3).to_owned() };
        shard.relations.insert((text(&row, 0).into(), text(&row, 1).into()), relation);
    }
    for row in ask(&mut server, COLUMNS).await? {
        let collation = match text(&row, 7) {
            "bytes" => Collation::C,
            "default" if shard.bytewise => Collation::C,
            "default" | "deterministic" => Collation::Deterministic,
            _ => Collation::Nondeterministic,
        };
        let column = RawColumn {
            name: text(&row, 1).into(),
            number: number(&row, 2),
            ty: Type::of_column(number(&row, 3), number(&row, 4)),
            modifier: number(&row, 5),
            nullable: !flag(&row, 6),
            collation,
        };
        shard.columns.entry(number(&row, 0)).or_default().push(column);
    }
    let defined = ask(&mut server, DEFINITIONS).await?;
    if defined.len() <= DEFINITIONS_MAX {
        let definitions = shard.definitions.insert(HashMap::new());
        for row in &defined {
            let definition = text(row, 1).trim_end_matches(';').into();
            definitions.entry(number(row, 0)).or_default().push(definition);
        }
    }
    for row in ask(&mut server, FUNCTIONS).await? {
        let function = RawFunction {
            volatile: flag(&row, 1),
            made: flag(&row, 2),
            changing: flag(&row, 3),
            of_rows: flag(&row, 4),
            builtin: flag(&row, 5),
            count: number(&row, 6),
            coded: flag(&row, 7),
        };
        shard.functions.insert(text(&row, 0).into(), function);
    }
    let bodies = if shows_bodies { ask(&mut server, BODIES).await? } else { Vec::new() };
    for row in bodies.iter().filter(|_| bodies.len() <= BODIES_MAX) {
        let body = RawBody {
            text: queries(text(row, 2)).into(),
            defaults: row.get(3).and_then(Option::as_ref).map(|_| text(row, 3).into()),
            is_immutable: flag(row, 1),
        };
        shard.bodies.entry(text(row, 0).into()).or_default().push(body);
    }
    for row in ask(&mut server, TYPES).await? {
        shard.types.insert(text(&row, 0).into());
    }
    for row in ask(&mut server, OPERATORS).await? {
        shard.operators.insert(text(&row, 0).into());
    }
    Ok(shard)
}

/// The queries of a body, as it is or as PostgreSQL writes one that it keeps parsed.
fn queries(body: &str) -> Cow<'_, str> {
    let body = body.trim();
    if let Some(value) = body.strip_prefix("RETURN ") {
        return format!("SELECT {value}").into();
    }
    let block = body.strip_prefix("BEGIN ATOMIC").and_then(|rest| rest.strip_suffix("END"));
    block.unwrap_or(body).trim().into()
}

type Row = Vec<Option<Bytes>>;

async fn ask(server: &mut Pooled, sql: &str) -> Result<Vec<Row>, String> {
    let mut frame = BytesMut::new();
    frame.put_u8(b'Q');
    frame.put_u32(u32::try_from(sql.len() + 5).unwrap_or(u32::MAX));
    frame.put_slice(sql.as_bytes());
    frame.put_u8(0);
    let request = Request::new(frame.freeze()).whole_max(ANSWER_MAX);
    let reply = server.exchange(request).await.map_err(|error| match error.server() {
        Some(report) => report.to_string(),
        None => error.to_string(),
    })?;
    match reply.body {
        Body::Whole(rows) => values_of_rows(&rows).map_err(|error| error.to_string()),
        _ => Err(format!("the catalogs have more than {ANSWER_MAX} bytes")),
    }
}

fn text(row: &Row, column: usize) -> &str {
    let value = row.get(column).and_then(Option::as_ref);
    value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

fn flag(row: &Row, column: usize) -> bool {
    text(row, column) == "t"
}

/// A number, 0 where there is none.
fn number<N: std::str::FromStr + Default>(row: &Row, column: usize) -> N {
    text(row, column).parse().unwrap_or_default()
}
