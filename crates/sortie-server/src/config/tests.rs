use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sortie_postgres::Credential;

use super::file::read;
use super::problem::Problem;
use super::server::Secrets;
use super::*;

mod front;

const TRUST: &str = "auth = \"trust\"\n";
const ONE: &str = "[[clusters.bank.shards]]\nreplicas = [\"postgres://reader@db/bank\"]\n";

fn parse(text: &str) -> Result<Config, Vec<String>> {
    // Every file says this, so most texts here leave it out.
    let added = usize::from(!text.contains("auth ="));
    let text = if added == 1 { format!("{TRUST}{text}") } else { text.to_owned() };
    let shown = |Problem { place, what }: Problem| {
        place.map_or(what.clone(), |(line, column)| format!("{}:{column}: {what}", line - added))
    };
    read(&text, &mut Secrets::new("".into(), None))
        .map_err(|problems| problems.into_iter().map(shown).collect())
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let problems = parse(text).expect_err("it must be refused");
    for part in expected {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

fn servers(cluster: &ClusterConfig) -> Vec<&str> {
    cluster.shards.iter().flat_map(ShardConfig::servers).map(|server| &*server.name).collect()
}

/// The rows `| key | default |` of the table of defaults in this module's documentation.
fn documented() -> Vec<(&'static str, &'static str)> {
    include_str!("mod.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split_once('|'))
        .filter_map(|(key, rest)| {
            let default = rest.trim().strip_prefix('`')?.split_once('`')?.0;
            Some((key.trim().trim_end_matches('`'), default))
        })
        .collect()
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let (general, cluster): (Vec<_>, Vec<_>) = documented()
        .into_iter()
        .partition(|(key, _)| known_keys("").iter().any(|known| known == key));
    assert!((general.len(), cluster.len()) == (9, 16), "{general:?} {cluster:?}");
    let lines = |keys: &[(&str, &str)], prefix: &str| {
        let lines = keys.iter().map(|(key, default)| format!("{prefix}{key} = {default}"));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    let all = [&lines(&general, ""), &lines(&cluster, "clusters.bank."), ONE].concat();
    assert_eq!(parse(&all), parse(ONE));
    assert!(parse(ONE).is_ok());
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let text = include_str!("../../../../docs/sortie.toml");
    let config = parse(text).unwrap();
    let bank = config.clusters.first().unwrap();
    let (shards, tables) = (bank.shards.clone(), bank.tables.clone());
    let mut expected = Config::empty();
    let mut cluster = ClusterConfig { shards, tables, ..ClusterConfig::named("bank") };
    let user = |name: &str, mode, pipe_target, connections_max| UserConfig {
        join: Joining::Fresh,
        max_join_age: None,
        name: name.into(),
        mode,
        pipe_target,
        connections_max,
        credential: None,
    };
    cluster.users = vec![
        user("reader", Mode::Share, PipeTarget::Replica, 100_000),
        user("writer", Mode::Pipe, PipeTarget::Primary, 50),
    ];
    expected.clusters.push(cluster);
    assert_eq!(config, expected);
    assert_eq!(servers(bank)[..2], ["10.0.0.1:5432", "10.0.0.2:5432"]);
    assert_eq!(bank.tables[0].spread, Spread::Hash { key: "user_id".into() });
    assert_eq!(bank.tables[1].spread, Spread::Reference);
    let places = ["clusters.b", "clusters.b.pool", "clusters.b.timeouts", "clusters.b.users.u"];
    let others = ["clusters.b.tables.t", "[clusters.b.shards]", ""];
    for key in places.into_iter().chain(others).flat_map(known_keys) {
        assert!(text.contains(&format!("{key} = ")), "{key} is not in docs/sortie.toml");
    }
}

/// Every key of a table, as the refusal of an unknown one lists them.
fn known_keys(table: &str) -> Vec<String> {
    let head = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
    let problems = parse(&format!("{head}zzzzzz = 1")).unwrap_err();
    let known = problems.iter().find_map(|problem| problem.split_once("known here: ")).unwrap();
    let tables = ["clusters", "certificates", "pool", "timeouts", "shards", "tables", "users"];
    known.1.split(", ").filter(|key| !tables.contains(key)).map(str::to_owned).collect()
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_one() {
    let with = |lines: &str| format!("{ONE}{lines}");
    refused(
        &with("[clusters.bank.pool]\n idel = \"1s\"\n"),
        &["4:2: unknown key `idel`; did you mean `idle`?"],
    );
    refused(&format!("lisen = 1\n{ONE}"), &["1:1: unknown key `lisen`; did you mean `listen`?"]);
    refused(
        "[cluster.bank]\n",
        &["1:2: unknown key `cluster`; did you mean `clusters`?", "no cluster"],
    );
    refused(&format!("é = {{ zzz = 1 }}\n{ONE}"), &["1:1: it is not TOML"]);
    refused(
        &with("primry = \"postgres://a@b/c\"\n"),
        &["3:1: unknown key `primry`; did you mean `primary`?"],
    );
    refused(
        &with("[clusters.bank.qqqqq]\n"),
        &["3:16: unknown key `qqqqq`; known here: mode, pipe_target"],
    );
    refused(
        &with("[clusters.bank.users.u]\nmod = \"pipe\"\n"),
        &["4:1: unknown key `mod`; did you mean `mode`?"],
    );
}

#[test]
fn all_keys_of_a_cluster_are_known_elsewhere_as_such() {
    let problem = parse(&format!("{ONE}[clusters.bank.qqqqq]\n")).unwrap_err().remove(0);
    let (_, known) = problem.split_once("known here: ").unwrap();
    let mut known: Vec<_> = known.split(", ").filter(|key| *key != "users").collect();
    let mut listed = cluster::KEYS.to_vec();
    known.sort_unstable();
    listed.sort_unstable();
    assert_eq!(known, listed);
}

#[test]
fn keys_in_the_wrong_place_are_told_the_right_one() {
    for key in cluster::KEYS {
        let unknown = format!("unknown key `{key}`; it belongs below `[clusters.");
        refused(&format!("{key} = 1\n{ONE}"), &[&format!("1:1: {unknown}NAME]`")]);
        refused(&format!("{ONE}{key} = 1\n"), &[&format!("3:1: {unknown}bank]`, above")]);
        // There it is known.
        let there = parse(&format!("[clusters.bank]\n{key} = 1\n{ONE}")).err().unwrap_or_default();
        assert!(!there.iter().any(|problem| problem.contains("unknown")), "{there:?}");
    }
    let flat = "[clusters.bank]\nreplicas = [\"postgres://a@b/c\"]\n";
    refused(flat, &["has no shard", "2:1: unknown key `replicas`; it belongs below `[[clusters."]);
}

#[test]
fn every_problem_is_reported_at_once_in_order() {
    let text = "[clusters.bank]\nhedge = 70\nmode = \"shared\"\nshare_max = \"1MB\"\n\
                pool.warm_min = -1\n[[clusters.bank.shards]]\nreplicas = [\"postgres://db\", 7]\n";
    let problems = parse(text).unwrap_err();
    let expected = [
        "2:9: `hedge`: write a duration with its unit, for example \"70ms\", or \"off\", not a",
        "3:8: `mode`: `shared` is unknown; write one of \"share\", \"observe\", \"pipe\"",
        "4:13: `share_max`: `1MB` is no size; write a size above zero with its unit, for example \
         \"64KiB\" or \"1MiB\" (B, KiB, MiB, GiB)",
        "5:17: `warm_min`: write a whole number up to 4294967295, without quotes",
        "7:13: the connection string lacks user",
        "7:30: `replicas` holds strings only",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
}

#[test]
fn values_have_units() {
    let with = |lines: &str| parse(&format!("[clusters.bank]\n{lines}\n{ONE}")).unwrap();
    let bank = |lines: &str| with(lines).clusters.remove(0);
    assert_eq!(bank("hedge = \"off\"").hedge, None);
    let joining = bank("join = \"running\"\nmax_join_age = \"2s\"\n[clusters.bank.users.u]");
    let second = Some(Duration::from_secs(2));
    for user in &joining.users {
        assert_eq!((user.join, user.max_join_age), (Joining::Running, second), "{}", user.name);
    }
    refused(&format!("[clusters.bank]\nmax_lag = \"1s\"\n{ONE}"), &["`max_lag` is not served yet"]);
    assert_eq!(bank("hedge = \"1s 500ms\"").hedge, Some(Duration::from_millis(1_500)));
    assert_eq!(bank("share_max = \"64 KiB\"").share_max, 64 << 10);
    assert_eq!(bank("pool.connections_max = 1_000").pool.connections_max, 1_000);
    assert_eq!(bank("pool.connections_max = 0x10").pool.connections_max, 16);
    assert_eq!(bank("timeouts.wait = \"2m\"").timeouts.wait, Duration::from_secs(120));
    assert_eq!(bank("timeouts.silence = \"off\"").timeouts.silence, None);
    for (line, right) in [
        ("soft_age = \"0s\"", "above zero"),
        ("soft_age = \"5\"", "above zero with its unit"),
        ("share_max = 1048576", "with its unit"),
        ("share_max = \"0B\"", "above zero"),
        ("share_max = \"99999999999GiB\"", "is no size"),
        ("pool.connections_max = 0", "from 1 to 10000"),
        ("pool = 5", "`pool` must be a table, not a number"),
        ("pool = { connections_max = 2, warm_min = 3 }", "`warm_min` is above `connections_max`"),
        ("tables = { t = 1 }", "`tables.t` must be a table"),
        ("tables = { t = { } }", "a table needs `key = \"COLUMN\"`"),
        ("tables = { t = { key = \"k\", reference = true } }", "not both"),
        ("tables = { t = { key = \"k\", reference = \"yes\" } }", "write true or false"),
        ("tables = { \"\" = { key = \"k\" } }", "1 to 63 bytes"),
    ] {
        refused(&format!("[clusters.bank]\n{line}\n{ONE}"), &[right]);
    }
    refused(
        &format!("listen = \"0.0.0.0:1\"\n{ONE}"),
        &["1:10: `listen`: 0.0.0.0 can be reached from other machines"],
    );
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let shard = |lines: &str| format!("[[clusters.bank.shards]]\n{lines}\n");
    refused("", &["no cluster: write a table `[clusters.NAME]`"]);
    refused("[clusters]\n", &["no cluster: write a table `[clusters.NAME]`"]);
    refused("[clusters.bank]\n", &["1:11: cluster `bank` has no shard"]);
    refused("[clusters.bank]\nshards = []\n", &["1:11: cluster `bank` has no shard"]);
    refused(&shard("replicas = []"), &["1:1: a shard needs `primary"]);
    refused("clusters.bank.shards = 3\n", &["is a list of tables: write `[[…shards]]`"]);
    refused(&shard(""), &["1:1: a shard needs `primary"]);
    refused(
        &shard("replicas = \"postgres://a@b/c\""),
        &["must be a list of strings, not a string"],
    );
    refused(
        &shard("replicas = [\"postgres://a@b/c\", \"postgres://x@d/c\"]"),
        &["2:33: the role is `x` here and `a` at b:5432: that is one for all servers"],
    );
    refused(
        &shard("replicas = [\"postgres://a@b/c\", \"postgres://a@d/e\"]"),
        &["2:33: the database is `e` here and `c` at b:5432: that is one for all servers"],
    );
    refused(
        &shard("replicas = [\"postgres://a@b/c\", \"postgres://a@b/c\"]"),
        &["2:33: b:5432 is named twice"],
    );
    refused(
        &format!("[clusters.bank]\npipe_target = \"primary\"\n{ONE}"),
        &["`pipe_target = \"primary\"` holds for role `reader`, and shard 0 has no `primary`"],
    );
    refused(
        &format!("{ONE}[[clusters.\"bank.0\".shards]]\nprimary = \"postgres://a@b/c\"\n"),
        &["cluster `bank.0` can't be told from shard 0 of cluster `bank`"],
    );
}

#[test]
fn a_role_may_have_its_own_ways() {
    let text =
        format!("{ONE}[clusters.bank.users]\nreader.mode = \"pipe\"\nx.mode = \"observe\"\n");
    let bank = parse(&text).unwrap().clusters.remove(0);
    assert_eq!(bank.mode, Mode::Share);
    assert_eq!(bank.user("reader").map(|user| user.mode), Some(Mode::Pipe));
    assert_eq!(bank.user("x").map(|user| user.mode), Some(Mode::Observe));
    assert_eq!(bank.user("nobody"), None);
    let with = format!("{ONE}[clusters.bank.users.x]\npassword_file = \"/nowhere\"\n");
    refused(&with, &["4:17: `password_file`: /nowhere: No such file"]);
}

fn password(server: &ServerConfig) -> Option<&str> {
    match &server.info.credential {
        Credential::Password(password) => Some(password),
        _ => None,
    }
}

fn file(folder: &Path, name: &str, text: &str, mode: u32) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn passwords_come_from_the_url_then_a_file_then_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let text = "auth = \"trust\"\n[clusters.a]\npassword_file = \"secret\"\n[[clusters.a.shards]]\n\
                replicas = [\"postgres://r:url@a/d\", \"postgres://r@b/d\"]\n\
                [[clusters.b.shards]]\nreplicas = [\"postgres://r@c/d\"]\n";
    let path = file(folder.path(), "sortie.toml", text, 0o600);
    file(folder.path(), "secret", "from a file\nsecond line\n", 0o600);
    let loaded = load(&path, Some("environment".into())).unwrap();
    let of = |cluster: usize| loaded.config.clusters[cluster].shards[0].replicas.iter();
    assert_eq!(of(0).map(password).collect::<Vec<_>>(), [Some("url"), Some("from a file")]);
    assert_eq!(of(1).map(password).collect::<Vec<_>>(), [Some("environment")]);
    assert_eq!(loaded.warnings, [""; 0]);
    let without = load(&path, None).unwrap();
    assert_eq!(password(&without.config.clusters[1].shards[0].replicas[0]), None);
    let shown = format!("{loaded:?}");
    for secret in ["url@", "\"url\"", "from a file", "environment"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

#[test]
fn a_secret_that_everybody_can_read_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let one = &format!("{TRUST}{ONE}");
    let plain = file(folder.path(), "plain.toml", one, 0o644);
    assert_eq!(load(&plain, Some("x".into())).unwrap().warnings, [""; 0]);
    let secret = one.replace("reader@", "reader:geheim@");
    let open = file(folder.path(), "open.toml", &secret, 0o644);
    let warnings = load(&open, None).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("chmod 600") && warnings[0].contains("open.toml"), "{warnings:?}");
    file(folder.path(), "open", "geheim", 0o644);
    let by_file = format!("{TRUST}[clusters.bank]\npassword_file = \"open\"\n{ONE}");
    let by_file = file(folder.path(), "by_file.toml", &by_file, 0o644);
    assert_eq!(load(&by_file, None).unwrap().warnings.len(), 1);
}

#[test]
fn a_file_that_can_not_be_read_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let said = |path: &Path| load(path, None).unwrap_err().to_string();
    assert!(said(&folder.path().join("x.toml")).contains("x.toml: No such file"));
    let wrong = file(folder.path(), "a.toml", "\n  a = = 1\n", 0o600);
    assert!(said(&wrong).contains("a.toml:2:7: "), "{}", said(&wrong));
    let binary = folder.path().join("b.toml");
    fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert!(said(&binary).contains("UTF-8"));
    let lost = format!("{TRUST}[clusters.bank]\npassword_file = \"lost\"\n{ONE}");
    let lost = file(folder.path(), "c.toml", &lost, 0o600);
    assert!(said(&lost).contains("c.toml:3:17: `password_file`"), "{}", said(&lost));
    let many: Vec<String> = (0..30).map(|nth| format!("zzzzz{nth} = 1")).collect();
    let many = file(folder.path(), "d.toml", &many.join("\n"), 0o600);
    assert!(said(&many).ends_with("and 12 more"), "{}", said(&many));
}

#[test]
fn urls_alone_are_replicas_of_one_database() {
    let from = |urls: &[&str]| {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        from_urls(&urls, None).map(|loaded| loaded.config).map_err(|error| error.to_string())
    };
    let config = from(&["postgres://r@a/bank", "host=b user=r dbname=bank"]).unwrap();
    let bank = &config.clusters[0];
    assert_eq!(servers(bank), ["a:5432", "b:5432"]);
    assert_eq!((&*bank.name, bank.role(), bank.shards.len()), ("bank", "r", 1));
    for (urls, expected) in [
        (
            ["postgres://r@a/x", "postgres://r@b/y"],
            "-d: URL 2: the database is `y` here and `x` at a:5432",
        ),
        (["postgres://r@a/x", "postgres://s@b/x"], "URL 2: the role is `s` here and `r` at a:5432"),
        (["postgres://r@a/x", "postgres://r@a/x"], "URL 2: a:5432 is named twice"),
        (["postgres://r@a/x", "mysql://r@b/x"], "URL 2: "),
    ] {
        let error = from(&urls).unwrap_err();
        assert!(error.starts_with("-d: ") && error.contains(expected), "{error}");
    }
}
