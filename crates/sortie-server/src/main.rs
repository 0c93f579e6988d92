//! A Postgres-protocol reader endpoint with coalescing, hedging and scatter-gather.

mod admin;
mod announce;
mod auth;
mod check;
mod cli;
mod config;
mod console;
mod cores;
mod judge;
mod lab;
mod listener;
mod logins;
mod metrics;
mod read;
mod relay;
mod said;
mod serve;
mod session;
mod sql;
mod supervisor;
mod user;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Err(error) = command.check() {
        error.exit();
    }
    start_logs();
    let ended = match command {
        Command::Serve(options) => {
            serve::run(&options).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string())
        }
        Command::Lab(options) => {
            lab::run(&options).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string())
        }
        Command::User(options) => user::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Check(options) => check::run(&options).map_err(|error| error.to_string()),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("sortie: {error}");
        ExitCode::FAILURE
    })
}

/// Sends log lines to standard error; `RUST_LOG` says which, `info` and above without it.
fn start_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        // It would be said on standard error, with a panic if that is what takes nothing.
        .log_internal_errors(false)
        .init();
}
