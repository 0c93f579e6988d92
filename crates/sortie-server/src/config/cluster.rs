//! Reading one cluster.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sortie_postgres::{Credential, OwnCertificate};

use super::section::Section;
use super::server::{self, Secrets};
use super::tls;
use super::value::Bytes;
use super::{
    ClusterConfig, PipeTarget, ServerConfig, ShardConfig, Spread, TableConfig, UserConfig,
};

/// `NAMEDATALEN` less its end: a longer name can't be a database's, a role's or a table's.
pub(crate) const NAME_BYTES_MAX: usize = 63;

const CONNECTIONS_MAX: u32 = 10_000;

/// Keys of a cluster that people write where others are: all but `users`, which also the top knows.
pub(super) const KEYS: &[&str] = &[
    "mode",
    "pipe_target",
    "join",
    "max_join_age",
    "max_lag",
    "hedge",
    "soft_age",
    "share_max",
    "user_connections_max",
    "auth_query",
    "pool",
    "timeouts",
    "password_file",
    "tables",
    "shards",
];

/// As many as an endpoint may have altogether.
pub(super) const SESSIONS_MAX: u32 = 100_000;

/// A server and where its URL stands.
type Placed = (ServerConfig, Range<usize>);

pub(super) fn read(name: &str, section: &Section<'_, '_>, secrets: &mut Secrets) -> ClusterConfig {
    let mut cluster = ClusterConfig::named(name);
    named(section, section.span(), "a cluster", name);
    section.elsewhere(&["primary", "replicas"], format!("below `[[clusters.{name}.shards]]`"));
    section.set("mode", &mut cluster.mode);
    section.set("pipe_target", &mut cluster.pipe_target);
    section.set("join", &mut cluster.join);
    section.set("max_join_age", &mut cluster.max_join_age);
    unserved(section);
    section.set("hedge", &mut cluster.hedge);
    section.set("soft_age", &mut cluster.soft_age);
    if let Some((Bytes(size), _span)) = section.value("share_max") {
        cluster.share_max = size;
    }
    let sessions_max = &mut cluster.user_connections_max;
    section.set_within("user_connections_max", sessions_max, 0..=SESSIONS_MAX);
    if let Some((query, span)) = section.value::<String>("auth_query") {
        if !query.contains("$1") {
            let text = "`auth_query` must ask for the user $1, for example `SELECT usename, passwd \
                        FROM ops.find_user($1)`, with the schemas of all that it names";
            section.problem(span, text);
        }
        cluster.auth_query = Some(query);
    }
    pool(section, &mut cluster);
    section.section("timeouts", |timeouts| {
        timeouts.set("wait", &mut cluster.timeouts.wait);
        timeouts.set("flight", &mut cluster.timeouts.flight);
        timeouts.set("silence", &mut cluster.timeouts.silence);
    });
    let password = password(section, secrets);
    secrets.use_for_urls(password);
    cluster.tables = section.named("tables", |name, table| self::table(name, table));
    cluster.tables.retain(|table| !table.name.is_empty());
    shards(section, &mut cluster, secrets);
    users(section, &mut cluster, secrets);
    targets(section, &cluster);
    cluster
}

fn pool(section: &Section<'_, '_>, cluster: &mut ClusterConfig) {
    section.section("pool", |section| {
        let pool = &mut cluster.pool;
        section.set_within("connections_max", &mut pool.connections_max, 1..=CONNECTIONS_MAX);
        section.set_within("warm_min", &mut pool.warm_min, 0..=CONNECTIONS_MAX);
        section.set_within("waiters_max", &mut pool.waiters_max, 0..=1_000_000);
        section.set("idle", &mut pool.idle);
        section.set("lifetime", &mut pool.lifetime);
        if pool.warm_min > pool.connections_max {
            let text = "`warm_min` is above `connections_max`: keep it at most as large";
            section.problem(section.span(), text);
        }
    });
}

fn shards(section: &Section<'_, '_>, cluster: &mut ClusterConfig, secrets: &mut Secrets) {
    let mut all: Vec<Vec<Placed>> = Vec::new();
    let mut primaries = Vec::new();
    let name = &cluster.name;
    section.listed("shards", |section| {
        section.elsewhere(KEYS, format!("below `[clusters.{name}]`, above its shards"));
        let mut placed = Vec::new();
        let mut add = |url: &str, span: Range<usize>| match server::parse(url, secrets) {
            Ok(server) => placed.push((server, span)),
            Err(what) => section.problem(span, what),
        };
        let primary = section.value::<String>("primary");
        let has_primary = primary.is_some();
        if let Some((url, span)) = primary {
            add(&url, span);
        }
        for (url, span) in section.strings("replicas") {
            add(&url, span);
        }
        if !section.has("primary") && !section.has_any("replicas") {
            let text = "a shard needs `primary = \"postgres://…\"`, or `replicas` with such URLs, \
                        or both";
            section.problem(section.span(), text);
        }
        all.push(placed);
        primaries.push(has_primary);
    });
    if !section.has_any("shards") {
        let text = format!(
            "cluster `{name}` has no shard: write `[[clusters.{name}.shards]]` and its servers"
        );
        section.problem(section.span(), text);
    }
    agree(section, cluster, &all);
    twice(section, &all);
    cluster.shards = all
        .into_iter()
        .zip(primaries)
        .map(|(servers, has_primary)| {
            let mut servers = servers.into_iter().map(|(server, _span)| server);
            let primary = if has_primary { servers.next() } else { None };
            ShardConfig { primary, replicas: servers.collect() }
        })
        .collect();
}

/// All servers of a cluster are logged in to as one role, which is what clients come as, and have
/// the same name for its database.
fn agree(section: &Section<'_, '_>, cluster: &mut ClusterConfig, all: &[Vec<Placed>]) {
    let mut servers = all.iter().flatten();
    let Some((first, _span)) = servers.next() else { return };
    let role = &first.info.user;
    for (server, span) in servers {
        if let Some(what) = server::different(&first.info, &server.info) {
            let text = format!("{what}: that is one for all servers of a cluster");
            section.problem(span.clone(), text);
        }
    }
    cluster.users.push(UserConfig::of(cluster, role));
}

fn twice(section: &Section<'_, '_>, all: &[Vec<Placed>]) {
    let mut seen: Vec<&str> = Vec::new();
    for (server, span) in all.iter().flatten() {
        if seen.contains(&&*server.name) {
            let text = format!("{} is named twice in this cluster", server.name);
            section.problem(span.clone(), text);
        }
        seen.push(&server.name);
    }
}

fn table(name: &str, section: &Section<'_, '_>) -> TableConfig {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    named(section, section.span(), "a schema", schema);
    named(section, section.span(), "a table", name);
    let key = section.value::<String>("key");
    let mut reference = false;
    section.set("reference", &mut reference);
    let spread = match (key, reference) {
        (Some((key, _span)), false) => Spread::Hash { key },
        (None, true) => Spread::Reference,
        (Some((_key, span)), true) => {
            section.problem(span, "a table has a `key`, or it is a `reference` table: not both");
            Spread::Reference
        }
        (None, false) => {
            let text = "a table needs `key = \"COLUMN\"`, the column whose hash says on which \
                        shard a row is, or `reference = true` if every shard has all rows";
            if !section.has("key") {
                section.problem(section.span(), text);
            }
            Spread::Reference
        }
    };
    TableConfig { schema: schema.to_owned(), name: name.to_owned(), spread }
}

fn password(section: &Section<'_, '_>, secrets: &mut Secrets) -> Option<String> {
    let (file, span) = section.value::<PathBuf>("password_file")?;
    let password = secrets.password_in(&file);
    password.map_err(|what| section.problem(span, format!("`password_file`: {what}"))).ok()
}

fn users(section: &Section<'_, '_>, cluster: &mut ClusterConfig, secrets: &mut Secrets) {
    let users = section.named("users", |name, section| {
        named(section, section.span(), "a role", name);
        let mut user = UserConfig::of(cluster, name);
        let password = password(section, secrets).map(Credential::Password);
        user.credential = certificate(section, secrets, password);
        section.set_within("connections_max", &mut user.connections_max, 0..=SESSIONS_MAX);
        section.set("mode", &mut user.mode);
        section.set("pipe_target", &mut user.pipe_target);
        section.set("join", &mut user.join);
        section.set("max_join_age", &mut user.max_join_age);
        unserved(section);
        user
    });
    for user in users {
        match cluster.users.iter_mut().find(|known| known.name == user.name) {
            Some(known) => *known = user,
            None => cluster.users.push(user),
        }
    }
}

/// A certificate of a role's own, which is shown with its password, if it has one.
fn certificate(
    section: &Section<'_, '_>,
    secrets: &Secrets,
    password: Option<Credential>,
) -> Option<Credential> {
    let [shown, key] = ["sslcert", "sslkey"].map(|key| section.value::<PathBuf>(key));
    let (shown, key) = match (shown, key) {
        (Some(shown), Some(key)) => (shown, key),
        (None, None) => return password,
        _ => {
            let named = if section.has("sslcert") { "sslcert" } else { "sslkey" };
            let text = "`sslcert` and `sslkey`: both, a certificate without its key proves nothing";
            section.problem(section.value_span(named), text);
            return password;
        }
    };
    let [certificate, private] = [&shown.0, &key.0].map(|file| secrets.beside(file));
    // They are read for each connection; what is wrong with them now is told now.
    let problem = |span, name, path: &Path, what| {
        section.problem(span, format!("`{name}`: {}: {what}", path.display()));
    };
    if let Err(what) = tls::chain(&certificate) {
        problem(shown.1, "sslcert", &certificate, what);
    }
    if let Err(what) = tls::private_key(&private) {
        problem(key.1, "sslkey", &private, what);
    }
    let mut own = OwnCertificate::new(certificate, private);
    own.beside = password.unwrap_or(own.beside);
    Some(Credential::OwnCertificate(Box::new(own)))
}

/// Keys that are known, and do not work yet.
fn unserved(section: &Section<'_, '_>) {
    if let Some((_lag, span)) = section.value::<Duration>("max_lag") {
        let text = "`max_lag` is not served yet: a session reads nothing older than what it has \
                    written or read itself; leave it out";
        section.problem(span, text);
    }
}

/// Whoever wants to go to the primary needs one.
fn targets(section: &Section<'_, '_>, cluster: &ClusterConfig) {
    let wanted = cluster.users.iter().find(|user| user.pipe_target == PipeTarget::Primary);
    let lacking = cluster.shards.iter().position(|shard| shard.primary.is_none());
    if let (Some(user), Some(shard)) = (wanted, lacking) {
        let text = format!(
            "`pipe_target = \"primary\"` holds for role `{}`, and shard {shard} has no `primary`: \
             name it, or set \"replica\"",
            user.name,
        );
        section.problem(section.span(), text);
    }
}

fn named(section: &Section<'_, '_>, span: Range<usize>, what: &str, name: &str) {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        section.problem(span, format!("{what} has a name of 1 to {NAME_BYTES_MAX} bytes"));
    }
}
