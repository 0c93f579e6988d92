//! What can be shown: the tables by their names.

mod clients;
mod figures;
mod reads;
mod servers;
mod settings;
mod when;

use super::Console;
use super::table::{Cell, Column, Table};

/// A table that can be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Show {
    Clients,
    Config,
    Databases,
    Flights,
    Lists,
    Mem,
    Pools,
    Replicas,
    Servers,
    Stats,
    StatsAverages,
    StatsTotals,
    Totals,
    Users,
    Version,
    Why,
}

/// Their names, and what they have.
const ALL: [(&str, Show, &str); 16] = [
    ("clients", Show::Clients, "each client: who, from where, since when, with which server"),
    ("config", Show::Config, "what the configuration says"),
    ("databases", Show::Databases, "the servers behind each database"),
    ("flights", Show::Flights, "shared reads under way: who asks, for how long, who waits"),
    ("lists", Show::Lists, "how many there are of everything"),
    ("mem", Show::Mem, "what waits in memory for slow clients, in KiB, and what may"),
    ("pools", Show::Pools, "clients and server connections by database and user"),
    ("replicas", Show::Replicas, "each server that reads go to: its health, what was asked"),
    ("servers", Show::Servers, "each server connection: whose, what it does"),
    ("stats", Show::Stats, "what was done, by database: sums and averages"),
    ("stats_averages", Show::StatsAverages, "the averages alone"),
    ("stats_totals", Show::StatsTotals, "the sums alone"),
    ("totals", Show::Totals, "the sums and averages of all databases together"),
    ("users", Show::Users, "who has been named"),
    ("version", Show::Version, "the version of sortie"),
    ("why", Show::Why, "statements that were not shared, why, and what that would have saved"),
];

/// Commands that show nothing.
const ORDERS: &str = "
	PAUSE [<database>]
	RESUME [<database>]
	RELOAD
	KILL <client id>
	KILL <database>
	SHUTDOWN [NOW]
";

impl Show {
    pub(super) fn names() -> Vec<&'static str> {
        ALL.iter().map(|(name, ..)| *name).collect()
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        let found = ALL.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
        found.map(|(_, show, _)| *show)
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Clients => clients::CLIENTS,
            Self::Servers => servers::SERVERS,
            Self::Pools => servers::POOLS,
            Self::Databases => servers::DATABASES,
            Self::Flights => reads::FLIGHTS,
            Self::Replicas => reads::REPLICAS,
            Self::Why => reads::WHY,
            Self::Lists => clients::LISTS,
            Self::Mem => clients::MEM,
            Self::Users => clients::USERS,
            Self::Stats => figures::STATS,
            Self::StatsTotals | Self::StatsAverages => figures::SUMS,
            Self::Totals => figures::TOTALS,
            Self::Config => settings::CONFIG,
            Self::Version => settings::VERSION,
        }
    }
}

/// What `SHOW HELP` says.
pub(super) fn help() -> String {
    let line = |(name, _, what): &(&str, Show, &str)| {
        format!("\n\tSHOW {:<16}{what}", name.to_uppercase())
    };
    ALL.iter().map(line).collect::<String>() + ORDERS
}

impl Console {
    /// What there is to show now.
    pub(super) fn show(&self, show: Show) -> Table {
        let mut table = Table::new(show.columns());
        match show {
            Show::Clients => self.clients(&mut table),
            Show::Servers => self.servers(&mut table),
            Show::Pools => self.pools(&mut table),
            Show::Databases => self.databases(&mut table),
            Show::Flights => self.flights(&mut table),
            Show::Replicas => self.replicas(&mut table),
            Show::Why => self.why(&mut table),
            Show::Lists => self.lists(&mut table),
            Show::Mem => self.mem(&mut table),
            Show::Users => self.users(&mut table),
            Show::Stats => self.stats(&mut table),
            Show::StatsTotals => self.stats_totals(&mut table),
            Show::StatsAverages => self.stats_averages(&mut table),
            Show::Totals => self.totals(&mut table),
            Show::Config => self.settings(&mut table),
            Show::Version => {
                table.row([Cell::from(concat!("sortie ", env!("CARGO_PKG_VERSION")))]);
            }
        }
        table
    }
}
