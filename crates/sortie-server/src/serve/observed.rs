//! What sortie says at its end of clusters whose statements were only observed.

use std::fmt::Write as _;
use std::time::Duration;

use crate::logs;
use crate::relay::LaneStats;

/// Reasons that are named.
const REASONS_MAX: usize = 5;

/// Says it, to whoever reads the log and whoever sits at the terminal.
pub(super) fn tell(clusters: &[(String, LaneStats)]) {
    for (cluster, lanes) in clusters.iter().filter(|(_, lanes)| lanes.observed > 0) {
        tracing::info!(
            event = "observed",
            cluster,
            observed = lanes.observed,
            observed_micros = lanes.observed_micros,
            saved = lanes.saved,
            saved_micros = lanes.saved_micros,
            not_shared = not_shared(lanes),
            "observed"
        );
        logs::tell(text(cluster, lanes).trim_end());
    }
}

fn text(cluster: &str, lanes: &LaneStats) -> String {
    let time = |micros: u64| {
        let millis = Duration::from_millis((micros + 500) / 1_000);
        humantime::format_duration(millis).to_string()
    };
    let mut text = format!(
        "cluster {cluster}, observed: {} statements would have been shared, which took servers {}; \
         {} of them needed none, which would have saved {}\n",
        lanes.observed,
        time(lanes.observed_micros),
        lanes.saved,
        time(lanes.saved_micros),
    );
    let others = not_shared(lanes);
    if !others.is_empty() {
        writeln!(text, "  not shared: {others}").expect("writing to a string never fails");
    }
    text
}

/// Why statements were not shared, and how many; the most frequent reasons first.
fn not_shared(lanes: &LaneStats) -> String {
    // What is spared needed no server either.
    let is_other = |reason: &str| !matches!(reason, "observe" | "spared");
    let mut others: Vec<_> =
        lanes.piped.iter().filter(|(reason, count)| *count > 0 && is_other(reason)).collect();
    others.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let others = others.iter().take(REASONS_MAX);
    let others: Vec<_> = others.map(|(reason, count)| format!("{reason} {count}")).collect();
    others.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_names_what_would_be_saved_and_why_not_more() {
        let lanes = LaneStats {
            observed: 12,
            observed_micros: 3_400_000,
            saved: 10,
            saved_micros: 2_000_400,
            piped: vec![
                ("observe", 12),
                ("spared", 6),
                ("function", 2),
                ("command", 0),
                ("grammar", 5),
            ],
            ..LaneStats::default()
        };
        assert_eq!(not_shared(&lanes), "grammar 5 function 2");
        let said = text("bank", &lanes);
        assert_eq!(
            said,
            "cluster bank, observed: 12 statements would have been shared, which took servers 3s \
             400ms; 10 of them needed none, which would have saved 2s\n  not shared: grammar 5 \
             function 2\n"
        );
    }
}
