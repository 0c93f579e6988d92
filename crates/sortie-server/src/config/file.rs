//! Reading a file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml::de::DeTable;

use super::certified;
use super::cluster;
use super::console;
use super::front;
use super::problem::{ConfigError, Problem, Problems};
use super::section::Section;
use super::server::Secrets;
use super::value::Value;
use super::{ClusterConfig, Config};
use crate::logs::LogFormat;
use crate::said::Listen;

/// A file that holds no more than this is read; it is text that people write.
const FILE_MAX: u64 = 1 << 20;

/// Every reader of the file knows what it holds.
const READABLE_BY_ALL: u32 = 0o004;

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// What works but should not stay like that.
    pub(crate) warnings: Vec<String>,
}

/// Reads a configuration file. `environment` is the value of `PGPASSWORD`.
///
/// # Errors
///
/// Everything that is wrong with it, each with its line and what is right.
pub(crate) fn load(path: &Path, environment: Option<String>) -> Result<Loaded, ConfigError> {
    let text = text(path).map_err(|what| ConfigError {
        source: path.to_owned(),
        problems: vec![Problem { place: None, what }],
    })?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut secrets = Secrets::new(folder, environment);
    let config = read(&text, &mut secrets)
        .map_err(|problems| ConfigError { source: path.to_owned(), problems })?;
    let in_text = secrets.in_text();
    let mut warnings = secrets.into_warnings();
    if in_text && is_readable_by_all(path) {
        warnings.push(open_to_all(path));
    }
    Ok(Loaded { config, warnings })
}

/// What a file says of log lines, if it can be found out; what is wrong with it is told when it is
/// read.
pub(crate) fn log_format(path: &Path) -> Option<LogFormat> {
    let text = text(path).ok()?;
    let table = DeTable::parse(&text).ok()?;
    LogFormat::read(table.get_ref().get("log_format")?.get_ref()).ok()
}

/// Reads a configuration.
pub(super) fn read(text: &str, secrets: &mut Secrets) -> Result<Config, Vec<Problem>> {
    let problems = Problems::of(text);
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            // Its message names what was expected and quotes no text.
            problems.add(
                error.span().unwrap_or_default(),
                format!("it is not TOML: {}", error.message()),
            );
            return Err(problems.into_found());
        }
    };
    let mut config = Config::empty();
    Section::read(table.get_ref(), table.span(), &problems, |top| {
        if let Some((Listen(listen), _span)) = top.value("listen") {
            config.listen = listen;
        }
        front::auth(top, &mut config, secrets);
        front::tls(top, &mut config, secrets);
        certified::read(top, &mut config);
        top.set("admin", &mut config.admin);
        console::read(top, &mut config);
        top.set_within("connections_max", &mut config.connections_max, 1..=cluster::SESSIONS_MAX);
        top.set("login_max", &mut config.login_max);
        top.set("stall_max", &mut config.stall_max);
        top.set("log_format", &mut config.log_format);
        front::buffered_max(top, &mut config);
        let read = |name: &str, section: &Section<'_, '_>| cluster::read(name, section, secrets);
        config.clusters = top.named("clusters", read);
        top.elsewhere(cluster::KEYS, "below `[clusters.NAME]`");
        if problems.is_empty() {
            front::known(top, &config);
            console::known(top, &config);
        }
        if config.clusters.is_empty() && (problems.is_empty() || !top.has("clusters")) {
            let text = "no cluster: write a table `[clusters.NAME]`; NAME is the database that \
                        clients ask for";
            problems.add_whole(text);
        }
    });
    if problems.is_empty() {
        ambiguous(&config.clusters, &problems);
    }
    if problems.is_empty() { Ok(config) } else { Err(problems.into_found()) }
}

pub(super) fn is_readable_by_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & READABLE_BY_ALL != 0)
}

pub(super) fn open_to_all(path: &Path) -> String {
    let path = path.display();
    format!("{path} holds a password, and everybody on this machine may read it: chmod 600 {path}")
}

/// The text of a file of bounded size, or why not.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let told = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidData => "it is not text in UTF-8".to_owned(),
        _ => error.to_string(),
    };
    let size = fs::metadata(path).map_err(told)?.len();
    if size > FILE_MAX {
        return Err(format!("it has {size} bytes; a file of sortie's has {FILE_MAX} at most"));
    }
    fs::read_to_string(path).map_err(told)
}

/// `bank.0` is shard 0 of `bank`; a cluster of that name would hide it.
fn ambiguous(clusters: &[ClusterConfig], problems: &Problems<'_>) {
    for ClusterConfig { name, .. } in clusters {
        let Some((other, shard)) = name.rsplit_once('.') else { continue };
        if shard.parse::<usize>().is_ok() && clusters.iter().any(|one| one.name == other) {
            problems.add_whole(format!(
                "cluster `{name}` can't be told from shard {shard} of cluster `{other}`: rename it"
            ));
        }
    }
}
