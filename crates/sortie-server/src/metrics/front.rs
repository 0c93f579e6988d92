//! What was done about the configuration.

use std::fmt;

use super::Page;

/// Writes how reloads ended.
pub(super) fn encode(reloads: &[(&str, u64)], page: &mut Page<'_>) -> fmt::Result {
    let help = "How often the configuration was read again, by what came of it";
    page.counters("config_reloads", help, "outcome", reloads)
}
