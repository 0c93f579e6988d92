//! What happens where a rule is not kept: the same checks say so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sortie_testkit::Wire;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Kind, Known, PHASE_MAX, READERS, Reader, set_up, writing};
use crate::support::among_others;

/// A part of the time that a slow read takes.
const STEP: Duration = Duration::from_millis(40);

/// A rule that is not kept: the endpoint is asked for less than the reader is promised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Broken {
    /// Whoever reads afresh shares loads that run.
    Joins,
    /// A session knows nothing of what was read before: another one reads in turn, at the primary.
    Reads,
    /// A session knows nothing of what it has written: another one has.
    Writes,
}

impl Reader {
    /// One who does not keep a rule, and expects what it promises.
    async fn breaking(rule: Broken, to: SocketAddr, number: usize, known: Arc<Known>) -> Self {
        let kind = if rule == Broken::Writes { Kind::Writer } else { Kind::Fresh };
        let mut reader = Self::new(to, kind, number, known).await;
        if rule == Broken::Joins {
            reader.wire.simple("SET sortie.join = running").await;
            reader.wire.simple("SET sortie.max_join_age = '10s'").await;
        }
        let mut other = Wire::connect_as(to, "tester").await;
        if rule == Broken::Reads {
            other.simple("SET sortie.lane = pipe").await;
        }
        reader.broken = Some((rule, other));
        reader
    }

    /// Comes while another one's load runs, and not with it, if that is the way to break the rule.
    pub(super) async fn come_late(&self) {
        if self.broken.as_ref().is_some_and(|broken| broken.0 == Broken::Joins) {
            sleep(STEP * u32::try_from(self.turn * (self.number + 2) % 7).unwrap()).await;
        }
    }

    /// Goes on with the other session, if that is the way to break this rule.
    pub(super) fn swap(&mut self, rule: Broken) {
        if let Some((_, other)) = self.broken.as_mut().filter(|broken| broken.0 == rule) {
            std::mem::swap(&mut self.wire, other);
        }
    }
}

/// The same readers find out about each rule that is not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_is_broken_is_found() {
    let _others = among_others().await;
    let (cluster, endpoint) = set_up().await;
    let (primary, standbys) = (cluster.primary(0), cluster.standbys(0));
    let rules = [(Broken::Joins, "seen"), (Broken::Reads, "seen"), (Broken::Writes, "has written")];
    let (known, _writer) = writing();
    for (rule, said) in rules {
        known.go_on(&primary, true);
        if rule != Broken::Joins {
            known.rest().await;
            for standby in &standbys {
                standby.pause_replay().await;
            }
            known.go_on(&primary, false);
        }
        let mut readers = JoinSet::new();
        for number in 0..READERS {
            let known = Arc::clone(&known);
            readers.spawn(Reader::breaking(rule, endpoint.listen(), number, known).await.run());
        }
        let ended = timeout(PHASE_MAX, readers.join_next()).await;
        let found = ended.unwrap_or_else(|_late| panic!("{rule:?} is not found out")).unwrap();
        let found = found.expect_err("nobody is done").into_panic().downcast::<String>().unwrap();
        assert!(found.contains(said), "{rule:?}: {found}");
        readers.shutdown().await;
        known.rest().await;
        for standby in &standbys {
            standby.resume_replay().await;
        }
    }
    endpoint.stop().await;
}
