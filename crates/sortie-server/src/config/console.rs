//! The admin database: how it is called, and who may use it.

use super::section::Section;
use super::{Auth, ClusterConfig, Config};

/// What clients ask for who want to see or to steer sortie itself.
const NAME: &str = "sortie";

/// What they ask for where a cluster that nobody has named has that name.
const OTHER_NAME: &str = "sortie_admin";

/// Who may use the admin database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ConsoleConfig {
    /// Its name.
    pub(crate) database: String,
    /// Who may do everything there.
    pub(crate) admin_users: Vec<String>,
    /// Who may look.
    pub(crate) stats_users: Vec<String>,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        let (admin_users, stats_users) = (Vec::new(), Vec::new());
        Self { database: NAME.to_owned(), admin_users, stats_users }
    }
}

impl ConsoleConfig {
    /// Gets out of the way of a cluster whose name nobody has chosen: it is its database's.
    pub(crate) fn make_way(&mut self, clusters: &[ClusterConfig]) {
        if clusters.iter().any(|cluster| cluster.name == self.database) {
            OTHER_NAME.clone_into(&mut self.database);
        }
    }
}

/// Reads its keys.
pub(super) fn read(top: &Section<'_, '_>, config: &mut Config) {
    top.set("admin_database", &mut config.console.database);
    let names = |key| top.strings(key).into_iter().map(|(name, _span)| name).collect();
    (config.console.admin_users, config.console.stats_users) =
        (names("admin_users"), names("stats_users"));
}

/// What can't be so, once the clusters and the users are known.
pub(super) fn known(top: &Section<'_, '_>, config: &Config) {
    let name = &config.console.database;
    // `bank.0` is a shard of `bank`.
    let clashes = |cluster: &&ClusterConfig| {
        let bound = name.strip_prefix(cluster.name.as_str()).and_then(|it| it.strip_prefix('.'));
        cluster.name == *name || bound.is_some_and(|shard| shard.parse::<usize>().is_ok())
    };
    if let Some(cluster) = config.clusters.iter().find(clashes) {
        let cluster = &cluster.name;
        top.whole_problem(format!(
            "`{name}` is the database of sortie's own commands (psql -d {name} -c 'SHOW POOLS'), \
             and cluster `{cluster}` takes that name: call the cluster otherwise, or set \
             `admin_database` to another name"
        ));
    }
    let Auth::Scram(users) = &config.auth else { return };
    for key in ["admin_users", "stats_users"] {
        for (user, span) in top.strings(key) {
            if users.verifier(&user).is_none() {
                top.problem(
                    span,
                    format!(
                        "`{key}`: \"{user}\" is not in the users file, and no database is asked \
                         about users of sortie itself: add a line with `sortie user {user}`"
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::read;
    use super::super::server::Secrets;
    use super::*;

    const REST: &str = "[[clusters.NAME.shards]]\nprimary = \"postgres://reader@h/b\"\n";

    fn config(top: &str, cluster: &str) -> Result<Config, String> {
        let text = format!("auth = \"trust\"\n{top}\n{}", REST.replace("NAME", cluster));
        let mut secrets = Secrets::new(std::path::PathBuf::new(), None);
        read(&text, &mut secrets).map_err(|problems| format!("{problems:?}"))
    }

    #[test]
    fn the_admin_database_has_a_name_of_its_own() {
        let ours = config("", "bank").unwrap().console;
        assert_eq!((&*ours.database, ours.admin_users.len()), ("sortie", 0));
        let error = config("", "sortie").unwrap_err();
        assert!(error.contains("admin_database"), "{error}");
        let moved = config("admin_database = \"ops\"", "sortie").unwrap().console;
        assert_eq!(moved.database, "ops");
        assert!(config("admin_database = \"bank.0\"", "bank").is_err());
        assert!(config("admin_database = \"bank.x\"", "bank").is_ok());
    }

    #[test]
    fn who_may_use_it_is_a_list() {
        let ours = config("admin_users = [\"ops\"]\nstats_users = [\"a\", \"b\"]", "bank");
        let ours = ours.unwrap().console;
        assert_eq!(ours.admin_users, ["ops"]);
        assert_eq!(ours.stats_users, ["a", "b"]);
        assert!(config("admin_users = \"ops\"", "bank").is_err());
    }

    #[test]
    fn a_cluster_that_nobody_has_named_is_made_way_for() {
        let mut ours = ConsoleConfig::default();
        ours.make_way(&[ClusterConfig::named("bank")]);
        assert_eq!(ours.database, "sortie");
        ours.make_way(&[ClusterConfig::named("sortie")]);
        assert_eq!(ours.database, "sortie_admin");
    }
}
