//! Servers: URLs, and the passwords that URLs don't hold.

use std::path::{Path, PathBuf};

use sortie_postgres::{ConnInfo, Credential};

use super::file::{Loaded, is_readable_by_all, open_to_all, text};
use super::problem::{ConfigError, Problem};
use super::{ClusterConfig, Config, ServerConfig, ShardConfig, UserConfig};

/// Where a password comes from if the URL has none: `password_file`, then `PGPASSWORD`.
pub(super) struct Secrets {
    /// Where relative paths begin.
    folder: PathBuf,
    environment: Option<String>,
    file: Option<String>,
    in_text: bool,
    warnings: Vec<String>,
}

impl Secrets {
    pub(super) fn new(folder: PathBuf, environment: Option<String>) -> Self {
        let environment = environment.filter(|password| !password.is_empty());
        Self { folder, environment, file: None, in_text: false, warnings: Vec::new() }
    }

    /// A path as it is meant: relative ones begin beside the configuration.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Reads a password: the first line of a file.
    pub(super) fn password_in(&mut self, path: &Path) -> Result<String, String> {
        let path = self.beside(path);
        let told = |what| format!("{}: {what}", path.display());
        let text = text(&path).map_err(told)?;
        let password = text.lines().next().unwrap_or_default();
        if password.is_empty() {
            return Err(told("its first line must be the password, and is empty".to_owned()));
        }
        if is_readable_by_all(&path) {
            self.warnings.push(open_to_all(&path));
        }
        Ok(password.to_owned())
    }

    /// Has URLs filled with this one from now on, if there is one.
    pub(super) fn use_for_urls(&mut self, password: Option<String>) {
        self.file = password;
    }

    /// Whether a URL held a password.
    pub(super) fn in_text(&self) -> bool {
        self.in_text
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    fn fill(&mut self, info: &mut ConnInfo) {
        match info.credential {
            Credential::Password(_) => self.in_text = true,
            Credential::Trust => {
                if let Some(password) = self.file.as_ref().or(self.environment.as_ref()) {
                    info.credential = Credential::Password(password.clone());
                }
            }
            _ => {}
        }
    }
}

/// Makes a configuration of URLs alone: the replicas of one shard, in a cluster that is called as
/// the database of the first.
///
/// # Errors
///
/// What is wrong with them, each with its number.
pub(crate) fn from_urls(
    urls: &[String],
    environment: Option<String>,
) -> Result<Loaded, ConfigError> {
    let mut secrets = Secrets::new(PathBuf::new(), environment);
    let mut problems = Vec::new();
    let mut replicas: Vec<ServerConfig> = Vec::new();
    for (nth, url) in (1..).zip(urls) {
        let mut problem =
            |what| problems.push(Problem { place: None, what: format!("URL {nth}: {what}") });
        match parse(url, &mut secrets) {
            Err(what) => problem(what),
            Ok(server) => {
                let differs =
                    replicas.first().and_then(|first| different(&first.info, &server.info));
                if let Some(what) = differs {
                    problem(format!(
                        "{what}: several `-d` are replicas of one database; for more than that \
                         write a file, `-c sortie.toml`"
                    ));
                }
                if replicas.iter().any(|one| one.name == server.name) {
                    problem(format!("{} is named twice", server.name));
                }
                replicas.push(server);
            }
        }
    }
    if !problems.is_empty() {
        return Err(ConfigError { source: "-d".into(), problems });
    }
    let mut config = Config::empty();
    if let Some(ConnInfo { database, user, .. }) = replicas.first().map(|first| &first.info) {
        let mut cluster = ClusterConfig::named(database);
        cluster.users = vec![UserConfig::of(&cluster, user)];
        cluster.shards = vec![ShardConfig { primary: None, replicas }];
        config.clusters.push(cluster);
        config.console.make_way(&config.clusters);
    }
    Ok(Loaded { config, warnings: Vec::new() })
}

/// Says what differs between servers of one cluster that may not.
pub(super) fn different(first: &ConnInfo, other: &ConnInfo) -> Option<String> {
    let say = |what: &str, one: &str, two: &str| {
        let text = || format!("the {what} is `{two}` here and `{one}` at {}", first.address);
        (one != two).then(text)
    };
    say("database", &first.database, &other.database)
        .or_else(|| say("role", &first.user, &other.user))
}

/// Reads a URL, and adds the password that it lacks.
pub(super) fn parse(url: &str, secrets: &mut Secrets) -> Result<ServerConfig, String> {
    let mut info: ConnInfo = url.parse().map_err(|error| format!("{error}"))?;
    secrets.fill(&mut info);
    Ok(ServerConfig { name: info.address.to_string(), info })
}
