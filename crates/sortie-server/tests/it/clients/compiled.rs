//! Clients that have to be compiled first, once for all tests.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use sortie_testkit::{program, workspace};
use tokio::sync::OnceCell;

use super::succeed;

/// Debian's driver.
const JDBC: &str = "/usr/share/java/postgresql.jar";
/// Where Debian keeps Go's packages as source.
const GO_PATH: &str = "/usr/share/gocode";

/// A program, and what comes before the port on its command line.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Client {
    /// It is called with these first.
    pub(crate) fn with(&self, word: &str, folder: &Path) -> Self {
        let Self { program, mut arguments } = self.clone();
        arguments.extend([word.to_owned(), folder.display().to_string()]);
        Self { program, arguments }
    }

    pub(crate) fn at(&self, server: SocketAddr) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(server.port().to_string());
        command
    }
}

/// The program of `tests/clients/rust`, which `cargo xtask test` has built.
pub(crate) async fn rust_clients() -> PathBuf {
    let target = workspace().join("target/clients-rust");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--manifest-path"]);
    build.arg(workspace().join("tests/clients/rust/Cargo.toml"));
    build.env("CARGO_TARGET_DIR", &target);
    succeed(build).await;
    target.join("debug/rust-clients")
}

/// The class of this name in `tests/clients/java`, compiled by Eclipse's compiler: a sixth of a
/// JDK.
pub(crate) async fn java_client(class: &str) -> Client {
    static COMPILED: OnceCell<PathBuf> = OnceCell::const_new();
    let compile = || async {
        let target = workspace().join("target/clients-java");
        let mut compile = Command::new(program("ecj"));
        compile.args(["-17", "-proc:none", "-nowarn", "-cp", JDBC, "-d"]).arg(&target);
        let sources = workspace().join("tests/clients/java");
        compile.args(["Session.java", "Herd.java"].map(|source| sources.join(source)));
        succeed(compile).await;
        target
    };
    let classes = COMPILED.get_or_init(compile).await.display();
    // The quick compiler alone: no run is long enough to pay for the other.
    let arguments =
        ["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-cp", &format!("{classes}:{JDBC}"), class];
    Client { program: program("java"), arguments: arguments.map(str::to_owned).to_vec() }
}

/// The program of `tests/clients/go`, from the packages that Debian has as source.
pub(super) async fn go_clients() -> Client {
    static COMPILED: OnceCell<PathBuf> = OnceCell::const_new();
    let source = workspace().join("tests/clients/go");
    let compile = || compile_go(&["build"], &source, "clients");
    let program = COMPILED.get_or_init(compile).await.clone();
    Client { program, arguments: Vec::new() }
}

/// The tests of one of those packages, and where they are.
pub(super) async fn go_tests(package: &str) -> (PathBuf, PathBuf) {
    let source = Path::new(GO_PATH).join("src").join(package);
    let name = format!("{}.test", package.replace('/', "_"));
    (compile_go(&["test", "-c", "-vet=off"], &source, &name).await, source)
}

async fn compile_go(verb: &[&str], source: &Path, name: &str) -> PathBuf {
    let target = workspace().join("target/clients-go");
    let compiled = target.join(name);
    fs::create_dir_all(&target).unwrap();
    let mut compile = Command::new(program("go-12"));
    compile.current_dir(source).args(verb).arg("-o").arg(&compiled);
    compile.args(["-gccgoflags=all=-O0", "."]);
    compile.env("GOPATH", GO_PATH).env("GO111MODULE", "off").env("GOFLAGS", "");
    compile.env("GOCACHE", target.join("cache"));
    succeed(compile).await;
    compiled
}
