//! What a trace shows of a hedged call.

use std::fmt::Write;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sortie::ReplicaSet;
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::hedge;

/// Writes down the spans of this crate, one line each.
#[derive(Clone, Default)]
struct Spans {
    lines: Arc<Mutex<Vec<String>>>,
    next: Arc<AtomicU64>,
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("sortie::")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = span.metadata().name().to_owned();
        span.record(&mut Line(&mut line));
        self.lines.lock().unwrap().push(line);
        Id::from_u64(self.next.fetch_add(1, Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_a_span_with_its_replica_and_its_kind() {
    // With one subscriber in the process, a call site that another test meets first asks that
    // test's thread whether anybody listens, and stays off. With two, it asks them both.
    let _second = tracing::Dispatch::new(Spans::default());
    let spans = Spans::default();
    let guard = tracing::subscriber::set_default(spans.clone());
    let replicas = ReplicaSet::new([-3_i64, 90, 1]).label(|ms| format!("{ms} ms"));
    let answer = hedge().label("balance").run(&replicas, |ms| async move {
        sleep(Duration::from_millis(ms.unsigned_abs())).await;
        if ms < 0 { Err(()) } else { Ok(()) }
    });
    answer.await.unwrap();
    drop(guard);
    let expected = [
        r#"attempt hedge="balance" replica="-3 ms" kind="first" id=0.0"#,
        r#"attempt hedge="balance" replica="90 ms" kind="failover" id=0.1"#,
        r#"attempt hedge="balance" replica="1 ms" kind="hedge" id=0.2"#,
    ];
    assert_eq!(*spans.lines.lock().unwrap(), expected);
}
