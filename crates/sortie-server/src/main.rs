//! A Postgres-protocol reader endpoint with coalescing, hedging and scatter-gather.

mod admin;
mod announce;
mod auth;
mod budget;
mod check;
mod cli;
mod config;
mod console;
mod cores;
mod judge;
mod lab;
mod listener;
mod logins;
mod logs;
mod metrics;
mod read;
mod relay;
mod said;
mod serve;
mod session;
mod sql;
mod supervisor;
mod user;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Err(error) = command.check() {
        error.exit();
    }
    logs::start(command.log_format());
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
        logs::fail(&error);
        ExitCode::FAILURE
    })
}
