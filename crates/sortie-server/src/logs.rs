//! What is said while the server runs: log lines on standard error, the first lines on standard
//! output.
//!
//! # Invariants
//!
//! 1. With [`LogFormat::Json`] every line of either is one JSON object with `timestamp`, `level`,
//!    `target` and `message`; what else an event has stands beside them. Panics, too, are events.
//! 2. No password, no verifier, no statement and no value of one is logged, at any level.

use std::any::Any;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: a JSON object on each line.
    Json,
}

/// It holds for the whole process, as the log does.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Sends log lines to standard error; `RUST_LOG` says which, `info` and above without it.
pub(crate) fn start(format: LogFormat) {
    FORMAT.get_or_init(|| format);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(format == LogFormat::Text && io::stderr().is_terminal())
        .with_writer(io::stderr)
        // It would be said on standard error, with a panic if that is what takes nothing.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => {
            subscriber.json().flatten_event(true).with_span_list(false).init();
            panic::set_hook(Box::new(log_panic));
        }
    }
}

/// Writes lines for people to standard output, if anybody takes them: a server that can't say
/// where it is still serves. Machines read the log.
pub(crate) fn tell(text: impl Display) {
    if is_json() {
        return;
    }
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        tracing::warn!(%error, "can't write to standard output");
    }
}

/// Says why a command ends.
pub(crate) fn fail(error: &str) {
    if is_json() {
        tracing::error!(event = "failed", error, "sortie ends");
    } else {
        eprintln!("sortie: {error}");
    }
}

fn is_json() -> bool {
    FORMAT.get().is_some_and(|format| *format == LogFormat::Json)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let at = panic.location().map(tracing::field::display);
    let what = words(panic.payload());
    tracing::error!(event = "panic", at, what, "a panic: a bug of sortie's");
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it has no words")
}
