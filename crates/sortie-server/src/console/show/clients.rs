//! Clients, one by one and counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::Console;
use super::super::table::{Cell, Column, Kind, Table};
use super::when::{ago, parts};
use crate::relay::roster::{Doing, Entry};

pub(super) const CLIENTS: &[Column] = &[
    ("type", Kind::Text),
    ("user", Kind::Text),
    ("database", Kind::Text),
    ("state", Kind::Text),
    ("addr", Kind::Text),
    ("port", Kind::Int4),
    ("local_addr", Kind::Text),
    ("local_port", Kind::Int4),
    ("connect_time", Kind::Text),
    ("request_time", Kind::Text),
    ("wait", Kind::Int4),
    ("wait_us", Kind::Int4),
    ("close_needed", Kind::Int4),
    ("ptr", Kind::Text),
    ("link", Kind::Text),
    ("remote_pid", Kind::Int4),
    ("tls", Kind::Text),
    ("application_name", Kind::Text),
    ("id", Kind::Int4),
];

pub(super) const LISTS: &[Column] = &[("list", Kind::Text), ("items", Kind::Int4)];

pub(super) const MEM: &[Column] = &[
    ("name", Kind::Text),
    ("size", Kind::Int4),
    ("used", Kind::Int4),
    ("free", Kind::Int4),
    ("memtotal", Kind::Int4),
];

pub(super) const USERS: &[Column] = &[("name", Kind::Text), ("pool_mode", Kind::Text)];

/// How a session is called in the rows of servers that it is linked to.
pub(super) fn ptr(id: i32) -> String {
    format!("c{id}")
}

impl Console {
    pub(super) fn clients(&self, table: &mut Table) {
        let entries = self.roster.entries();
        for entry in &entries {
            let person = &entry.person;
            let (wait, wait_us) = parts(entry.waited().unwrap_or_default());
            let server = entry.server();
            table.row([
                "C".into(),
                (*person.user).into(),
                (*person.database).into(),
                state(entry).into(),
                person.ends.peer.map(|it| it.ip().to_string()).into(),
                person.ends.peer.map(|it| it.port()).into(),
                person.ends.local.map(|it| it.ip().to_string()).into(),
                person.ends.local.map(|it| it.port()).into(),
                ago(entry.began.elapsed()).into(),
                ago(entry.asked()).into(),
                wait.into(),
                wait_us.into(),
                entry.is_told().into(),
                ptr(person.id).into(),
                server.map(|process| format!("s{process}")).unwrap_or_default().into(),
                // The client's own process is not known: it is on the other side of a socket.
                0_u32.into(),
                if person.is_encrypted { "TLS" } else { "" }.into(),
                (*entry.application()).into(),
                u32::try_from(person.id).unwrap_or_default().into(),
            ]);
        }
    }

    pub(super) fn users(&self, table: &mut Table) {
        let config = self.subject.config();
        let mut names = BTreeSet::new();
        let roles = config.clusters.iter().flat_map(|cluster| &cluster.users);
        names.extend(roles.map(|user| user.name.as_str()));
        let console = &config.console;
        names.extend(console.admin_users.iter().chain(&console.stats_users).map(String::as_str));
        for name in names {
            table.row([name.into(), "".into()]);
        }
    }

    pub(super) fn lists(&self, table: &mut Table) {
        let config = self.subject.config();
        let entries = self.roster.entries();
        let connections: Vec<_> = self.connections().collect();
        let places = config.connections_max as usize;
        let logging_in = self.logins.count();
        let mut pools: BTreeSet<(Arc<str>, String)> = BTreeSet::new();
        for entry in &entries {
            pools.insert((Arc::clone(&entry.person.database), entry.person.user.to_string()));
        }
        let mut names = Table::new(USERS);
        self.users(&mut names);
        let mut count = |name: &str, items: usize| table.row([name.into(), items.into()]);
        count("databases", config.clusters.len() + 1);
        count("users", names.rows.len());
        count("pools", pools.len());
        count("free_clients", places.saturating_sub(entries.len()));
        count("used_clients", entries.len());
        count("login_clients", logging_in);
        let idle = connections.iter().filter(|it| it.is_idle()).count();
        count("free_servers", idle);
        count("used_servers", connections.len() - idle);
        // Names are looked up by the system, for each connection anew: nothing is kept.
        for name in ["dns_names", "dns_zones", "dns_queries", "dns_pending"] {
            count(name, 0);
        }
    }

    /// One kind, in pieces of a KiB, as more bytes than 32 bits count may wait.
    pub(super) fn mem(&self, table: &mut Table) {
        let budget = self.subject.budget();
        let (used, max) = (budget.used.div_ceil(1 << 10), budget.used_max >> 10);
        let free = max.saturating_sub(used);
        let total = (used + free) << 10;
        let size = 1_usize << 10;
        table.row(["buffered".into(), size.into(), used.into(), free.into(), total.into()]);
    }
}

fn state(entry: &Entry) -> &'static str {
    match (entry.doing(), entry.cancels()) {
        (Doing::Works, 1..) => "active_cancel_req",
        (_, 1..) => "waiting_cancel_req",
        (Doing::Rests | Doing::Works, 0) => "active",
        (Doing::Waits | Doing::IsHeld, 0) => "waiting",
    }
}

/// How many of these there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Crowd {
    pub(super) active: u32,
    pub(super) waiting: u32,
    pub(super) active_cancels: u32,
    pub(super) waiting_cancels: u32,
    pub(super) longest: std::time::Duration,
}

impl Crowd {
    pub(super) fn add(&mut self, entry: &Entry) {
        match entry.doing() {
            Doing::Works => self.active_cancels += entry.cancels(),
            _ => self.waiting_cancels += entry.cancels(),
        }
        match entry.waited() {
            Some(waited) => {
                self.waiting += 1;
                self.longest = self.longest.max(waited);
            }
            None => self.active += 1,
        }
    }
}

/// A number that is really none.
pub(super) const NONE: Cell = Cell::Number(0);
