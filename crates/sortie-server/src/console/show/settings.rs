//! What the configuration says, without a secret.

use super::super::Console;
use super::super::table::{Column, Kind, Table};
use crate::config::{CertCheck, ClusterConfig, Config, Joining, Mode, PipeTarget, Tls};
use crate::logs::LogFormat;

pub(super) const CONFIG: &[Column] = &[
    ("key", Kind::Text),
    ("value", Kind::Text),
    ("default", Kind::Text),
    ("changeable", Kind::Text),
];

pub(super) const VERSION: &[Column] = &[("version", Kind::Text)];

/// What a reload does not change.
const FIXED: [&str; 3] = ["listen", "admin", "log_format"];

type Setting = (String, String);

impl Console {
    pub(super) fn settings(&self, table: &mut Table) {
        let config = self.subject.config();
        let mut defaults = general(&Config::empty());
        let mut all = general(&config);
        for cluster in &config.clusters {
            let mut bare = ClusterConfig::named(&cluster.name);
            bare.shards.clear();
            all.extend(of_cluster(cluster));
            defaults.extend(of_cluster(&bare));
        }
        all.sort();
        for (key, value) in all {
            let default = defaults.iter().find(|(known, _)| *known == key);
            let default = default.map(|(_, value)| value.clone());
            let fixed = FIXED.contains(&key.as_str());
            table.row([
                key.into(),
                value.into(),
                default.into(),
                if fixed { "no" } else { "yes" }.into(),
            ]);
        }
    }
}

fn general(config: &Config) -> Vec<Setting> {
    let time = |time| humantime::format_duration(time).to_string();
    let tls = match config.tls {
        Tls::Off => "off",
        Tls::Allow(_) => "allow",
        Tls::Require(_) => "require",
    };
    let clientcert = config.certified.as_ref().map(|certified| match certified.check {
        CertCheck::Ca => "verify-ca",
        CertCheck::Full => "verify-full",
    });
    let log_format = match config.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let most = config.clusters.iter().map(|cluster| cluster.user_connections_max).max();
    let settings = [
        ("listen", config.listen.to_string()),
        ("auth", config.auth.name().to_owned()),
        ("tls", tls.to_owned()),
        ("clientcert", clientcert.unwrap_or_default().to_owned()),
        ("log_format", log_format.to_owned()),
        ("admin", config.admin.0.to_string()),
        ("admin_database", config.console.database.clone()),
        ("admin_users", config.console.admin_users.join(",")),
        ("stats_users", config.console.stats_users.join(",")),
        ("connections_max", config.connections_max.to_string()),
        ("login_max", time(config.login_max)),
        ("stall_max", time(config.stall_max)),
        ("buffered_max", format!("{}B", config.buffered_max)),
        // By the names that PgBouncer's tools look for. Of server connections a user may have as
        // many as there are: no limit is 0 there.
        ("max_client_conn", config.connections_max.to_string()),
        ("max_user_connections", "0".to_owned()),
        ("max_user_client_connections", most.unwrap_or(0).to_string()),
    ];
    settings.map(|(key, value)| (key.to_owned(), value)).into()
}

fn of_cluster(cluster: &ClusterConfig) -> Vec<Setting> {
    let time = |time| humantime::format_duration(time).to_string();
    let off = |some: Option<_>| some.map_or_else(|| "off".to_owned(), time);
    let mode = match cluster.mode {
        Mode::Share => "share",
        Mode::Observe => "observe",
        Mode::Pipe => "pipe",
    };
    let target = match cluster.pipe_target {
        PipeTarget::Replica => "replica",
        PipeTarget::Primary => "primary",
    };
    let join = match cluster.join {
        Joining::Fresh => "fresh",
        Joining::Running => "running",
    };
    let settings = [
        ("mode", mode.to_owned()),
        ("pipe_target", target.to_owned()),
        ("join", join.to_owned()),
        ("max_join_age", off(cluster.max_join_age)),
        ("auth_query", cluster.auth_query.clone().unwrap_or_default()),
        ("hedge", off(cluster.hedge)),
        ("soft_age", time(cluster.soft_age)),
        ("share_max", cluster.share_max.to_string()),
        ("user_connections_max", cluster.user_connections_max.to_string()),
        ("pool.connections_max", cluster.pool.connections_max.to_string()),
        ("pool.warm_min", cluster.pool.warm_min.to_string()),
        ("pool.waiters_max", cluster.pool.waiters_max.to_string()),
        ("pool.idle", time(cluster.pool.idle)),
        ("pool.lifetime", time(cluster.pool.lifetime)),
        ("timeouts.wait", time(cluster.timeouts.wait)),
        ("timeouts.flight", time(cluster.timeouts.flight)),
        ("timeouts.silence", off(cluster.timeouts.silence)),
        ("shards", cluster.shards.len().to_string()),
    ];
    let name = &cluster.name;
    settings.map(|(key, value)| (format!("clusters.{name}.{key}"), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_cluster_and_its_clients_is_shown() {
        let mut config = Config::empty();
        config.log_format = LogFormat::Json;
        let mut cluster = ClusterConfig::named("bank");
        cluster.join = Joining::Running;
        cluster.auth_query = Some("SELECT $1".to_owned());
        let shown = [general(&config), of_cluster(&cluster)].concat();
        for (key, value) in [
            ("log_format", "json"),
            ("clientcert", ""),
            ("clusters.bank.join", "running"),
            ("clusters.bank.max_join_age", "off"),
            ("clusters.bank.auth_query", "SELECT $1"),
        ] {
            let found = shown.iter().find(|(known, _)| known == key);
            assert_eq!(found.map(|(_, value)| value.as_str()), Some(value), "{key}");
        }
    }
}
