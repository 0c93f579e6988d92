//! What differs between two configurations, in words: for whoever has it read again.
//!
//! # Invariants
//!
//! 1. Two configurations that differ have a difference, whatever it is that differs.
//! 2. Neither a password nor a URL is part of it.

use std::fmt::{self, Debug, Display};

use super::{Auth, ClusterConfig, Config, ServerConfig, ShardConfig, UserConfig, Users};

/// As many changes are told; the others are counted.
const TOLD_MAX: usize = 20;

/// As many names are told of those that came, changed or went.
const NAMES_MAX: usize = 5;

/// What differs.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// What holds from now on.
    changes: Vec<String>,
    /// What would hold after a restart.
    restart: Vec<&'static str>,
}

impl Difference {
    /// What `after` says otherwise than `before`.
    pub(crate) fn between(before: &Config, after: &Config) -> Self {
        let mut told = Self::default();
        for (name, differs) in [
            ("listen", before.listen != after.listen),
            ("admin", before.admin != after.admin),
            ("log_format", before.log_format != after.log_format),
        ] {
            if differs {
                told.restart.push(name);
            }
        }
        let top = told.changes.len();
        told.auth(&before.auth, &after.auth);
        if before.tls != after.tls {
            told.changes.push("tls: new connections get what is configured now".to_owned());
        }
        if before.certified != after.certified {
            told.changes.push("clients' certificates: new connections".to_owned());
        }
        told.value("connections_max", &before.connections_max, &after.connections_max);
        told.value("login_max", &before.login_max, &after.login_max);
        told.value("stall_max", &before.stall_max, &after.stall_max);
        told.value("buffered_max", &before.buffered_max, &after.buffered_max);
        let of_top = told.changes.len() - top;
        told.clusters(&before.clusters, &after.clusters);
        let rest = Config { clusters: before.clusters.clone(), ..after.clone() };
        let rest = rest.until_restart(before);
        if of_top == 0 && rest != *before {
            told.changes.push("settings of the endpoint".to_owned());
        }
        told
    }

    /// Whether nothing differs.
    pub(crate) fn is_none(&self) -> bool {
        self.changes.is_empty() && self.restart.is_empty()
    }

    fn value<T: Debug + PartialEq>(&mut self, name: &str, before: &T, after: &T) {
        if before != after {
            self.changes.push(format!("{name} {before:?} -> {after:?}"));
        }
    }

    fn auth(&mut self, before: &Auth, after: &Auth) {
        match (before, after) {
            (Auth::Scram(before), Auth::Scram(after)) => self.users(before, after),
            (before, after) if before == after => {}
            (before, after) => {
                self.changes.push(format!("auth: {} -> {}", before.name(), after.name()));
            }
        }
    }

    fn users(&mut self, before: &Users, after: &Users) {
        let added = after.iter().filter(|(name, _)| before.verifier(name).is_none());
        let removed = before.iter().filter(|(name, _)| after.verifier(name).is_none());
        let changed = after.iter().filter(|(name, verifier)| {
            before.verifier(name).is_some_and(|before| before != *verifier)
        });
        let names = [
            names("+", added.map(|(name, _)| name)),
            names("~", changed.map(|(name, _)| name)),
            names("-", removed.map(|(name, _)| name)),
        ];
        self.sets("users", names);
    }

    fn clusters(&mut self, before: &[ClusterConfig], after: &[ClusterConfig]) {
        let find = |list: &'_ [ClusterConfig], name: &str| list.iter().any(|it| it.name == name);
        let added = after.iter().filter(|it| !find(before, &it.name));
        let removed = before.iter().filter(|it| !find(after, &it.name));
        let sets = [
            names("+", added.map(|it| it.name.as_str())),
            String::new(),
            names("-", removed.map(|it| it.name.as_str())),
        ];
        self.sets("clusters", sets);
        for after in after {
            let before = before.iter().find(|before| before.name == after.name);
            if let Some(before) = before.filter(|before| *before != after) {
                self.cluster(before, after);
            }
        }
    }

    fn cluster(&mut self, before: &ClusterConfig, after: &ClusterConfig) {
        let mut told = Self::default();
        told.value("mode", &before.mode, &after.mode);
        told.value("pipe_target", &before.pipe_target, &after.pipe_target);
        told.value("hedge", &before.hedge, &after.hedge);
        told.value("soft_age", &before.soft_age, &after.soft_age);
        told.value("share_max", &before.share_max, &after.share_max);
        let (were, are) = (before.user_connections_max, after.user_connections_max);
        told.value("user_connections_max", &were, &are);
        if before.auth_query != after.auth_query {
            told.changes.push("auth_query".to_owned());
        }
        let (were, are) = (&before.pool, &after.pool);
        told.value("pool.connections_max", &were.connections_max, &are.connections_max);
        told.value("pool.warm_min", &were.warm_min, &are.warm_min);
        told.value("pool.waiters_max", &were.waiters_max, &are.waiters_max);
        told.value("pool.idle", &were.idle, &are.idle);
        told.value("pool.lifetime", &were.lifetime, &are.lifetime);
        let (were, are) = (&before.timeouts, &after.timeouts);
        told.value("timeouts.wait", &were.wait, &are.wait);
        told.value("timeouts.flight", &were.flight, &are.flight);
        told.value("timeouts.silence", &were.silence, &are.silence);
        told.value("shards", &before.shards.len(), &after.shards.len());
        told.listed("servers", &servers(before), &servers(after), |it| &it.name);
        told.listed("tables", &all(&before.tables), &all(&after.tables), |it| &it.name);
        let own = |cluster: &ClusterConfig| {
            let own = cluster.users.iter();
            // What holds for all is told above.
            let own = own.map(|user| (*user != UserConfig::of(cluster, &user.name), user.clone()));
            own.map(|(differs, user)| (user.name.clone(), differs.then_some(user))).collect()
        };
        let (were, are): (Vec<_>, Vec<_>) = (own(before), own(after));
        told.listed("users", &all(&were), &all(&are), |(name, _)| name);
        if told.changes.is_empty() {
            told.changes.push("its settings".to_owned());
        }
        let name = &after.name;
        self.changes.extend(told.changes.iter().map(|change| format!("cluster {name}: {change}")));
    }

    /// What came, changed and went of a list.
    fn listed<T: PartialEq>(
        &mut self,
        what: &str,
        before: &[&T],
        after: &[&T],
        name: impl Fn(&T) -> &str,
    ) {
        let find = |list: &[&T], it: &T| list.iter().any(|other| name(other) == name(it));
        let added = after.iter().filter(|it| !find(before, it)).map(|it| name(it));
        let removed = before.iter().filter(|it| !find(after, it)).map(|it| name(it));
        let changed = after.iter().filter(|it| find(before, it) && !before.contains(it));
        let changed = changed.map(|it| name(it));
        self.sets(what, [names("+", added), names("~", changed), names("-", removed)]);
    }

    fn sets(&mut self, what: &str, sets: [String; 3]) {
        let sets: Vec<_> = sets.into_iter().filter(|set| !set.is_empty()).collect();
        if !sets.is_empty() {
            self.changes.push(format!("{what} {}", sets.join(" ")));
        }
    }
}

fn all<T>(list: &[T]) -> Vec<&T> {
    list.iter().collect()
}

fn servers(cluster: &ClusterConfig) -> Vec<&ServerConfig> {
    cluster.shards.iter().flat_map(ShardConfig::servers).collect()
}

/// Some names, each behind this sign, in order.
fn names<'a>(sign: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let told: Vec<String> =
        names.iter().take(NAMES_MAX).map(|name| format!("{sign}{name}")).collect();
    match names.len().saturating_sub(NAMES_MAX) {
        0 => told.join(" "),
        more => format!("{} and {sign}{more} more", told.join(" ")),
    }
}

/// `CHANGE; CHANGE; needs a restart: NAME, NAME`.
impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told: Vec<String> = self.changes.iter().take(TOLD_MAX).cloned().collect();
        if self.changes.len() > TOLD_MAX {
            told.push(format!("and {} more", self.changes.len() - TOLD_MAX));
        }
        if !self.restart.is_empty() {
            told.push(format!("needs a restart: {}", self.restart.join(", ")));
        }
        f.write_str(&told.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sortie_postgres::ScramVerifier;

    use super::super::users::{Users, written};
    use super::*;

    fn config() -> Config {
        let mut config = Config::empty();
        let mut cluster = ClusterConfig::named("bank");
        cluster.users = vec![UserConfig::of(&cluster, "reader")];
        let url = "postgres://reader:geheim@10.0.0.1/bank";
        let server = ServerConfig { name: "10.0.0.1:5432".to_owned(), info: url.parse().unwrap() };
        cluster.shards = vec![ShardConfig { primary: Some(server), replicas: Vec::new() }];
        config.clusters = vec![cluster];
        config
    }

    fn told(change: impl FnOnce(&mut Config)) -> String {
        let (before, mut after) = (config(), config());
        change(&mut after);
        let told = Difference::between(&before, &after);
        assert_eq!(told.is_none(), before == after);
        told.to_string()
    }

    #[test]
    fn each_change_is_told_and_no_password() {
        assert_eq!(told(|_| {}), "");
        let port = "127.0.0.1:1".parse().unwrap();
        assert_eq!(told(|config| config.listen = port), "needs a restart: listen");
        assert_eq!(told(|config| config.connections_max = 5), "connections_max 900 -> 5");
        let mode = |config: &mut Config| {
            config.clusters[0].mode = super::super::Mode::Pipe;
            config.clusters[0].users[0].mode = super::super::Mode::Pipe;
        };
        assert_eq!(told(mode), "cluster bank: mode Share -> Pipe");
        let password = |config: &mut Config| {
            let primary = config.clusters[0].shards[0].primary.as_mut().unwrap();
            primary.info = "postgres://reader:other@10.0.0.1/bank".parse().unwrap();
        };
        assert_eq!(told(password), "cluster bank: servers ~10.0.0.1:5432");
        let both = |config: &mut Config| {
            config.clusters[0].name = "shop".to_owned();
            config.admin = crate::said::Loopback(port);
        };
        assert_eq!(told(both), "clusters +shop -bank; needs a restart: admin");
    }

    #[test]
    fn users_are_told_by_name_and_counted_past_a_few() {
        let users = |names: &[&str]| {
            let lines = names.iter().map(|name| written(name, &ScramVerifier::of_password("x")));
            let mut lines: Vec<_> = lines.collect();
            lines.sort();
            Auth::Scram(Arc::new(Users::parse(&lines.concat()).unwrap()))
        };
        let (mut before, mut after) = (config(), config());
        (before.auth, after.auth) =
            (users(&["a", "b"]), users(&["b", "c", "d", "e", "f", "g", "h"]));
        let told = Difference::between(&before, &after).to_string();
        assert_eq!(told, "users +c +d +e +f +g and +1 more ~b -a");
    }
}
