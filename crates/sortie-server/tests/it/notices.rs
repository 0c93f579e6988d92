//! What a server says beside an answer comes with it in both lanes, to everybody who shares it.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Wire};
use tokio::time::{Instant, sleep};

use crate::relay::count;
use crate::stage::{Endpoint, Setup, Stage};
use crate::support::among_others;

/// Longer than it takes to look at a server's catalogs.
const LOOKED_MAX: Duration = Duration::from_secs(30);

async fn shared(sortie: &Endpoint) -> i64 {
    let metrics = sortie.server.metrics().await;
    count(&metrics, "sortie_lane_statements_total", &["lane=\"shared\""])
}

/// The frames of an answer by their types, and what its notices say.
fn gist(answer: &[Frame]) -> (String, Vec<String>) {
    let notices = answer.iter().filter(|frame| frame.tag == b'N');
    // Code and message stand among what else there is, as text.
    let said = notices.map(|frame| {
        let fields = frame.body.split(|byte| *byte == 0);
        let told = fields.filter(|field| matches!(field.first(), Some(b'C' | b'M')));
        let told: Vec<_> = told.map(|field| String::from_utf8_lossy(field)).collect();
        told.join(" ")
    });
    let tags = answer.iter().map(|frame| char::from(frame.tag)).filter(|tag| *tag != 'S');
    (tags.collect(), said.collect())
}

#[tokio::test]
async fn come_to_all_who_share_an_answer() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let sortie = stage.endpoint(Setup::default()).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    let began = Instant::now();
    while shared(&sortie).await == 0 {
        wire.rows("SELECT label FROM items WHERE id = 1").await;
        assert!(began.elapsed() < LOOKED_MAX, "nothing is shared");
        sleep(Duration::from_millis(50)).await;
    }
    let long = format!("SELECT id AS {} FROM items WHERE id = 1", "a".repeat(70));
    let stop = "SELECT plainto_tsquery('english', 'the') FROM items WHERE id = 1".to_owned();
    let mut direct = Wire::connect(stage.primary()).await;
    for text in [long, stop] {
        let run = || Batch::new().bind("", "s", (0, &[]), 0).describe(b'P', "").execute("").sync();
        let parse = Batch::new().parse("s", &text, &[]);
        for batch in [
            Batch::new().query(&text),
            Batch::new().statement(&text, &[]).sync(),
            parse.clone().sync(),
            run(),
            Batch::new().close(b'S', "s").sync(),
            parse.describe(b'S', "s").sync(),
            run(),
            Batch::new().close(b'S', "s").sync(),
        ] {
            let expected = gist(&direct.ask(&batch).await);
            assert_eq!(gist(&wire.ask(&batch).await), expected, "{batch:?}");
        }
        // Those who share one flight, and those who do not want to hear of it.
        let (before, query) = (shared(&sortie).await, Batch::new().query(&text));
        let expected = gist(&direct.ask(&query).await);
        assert_eq!(expected.1.len(), 1, "{text}");
        let mut others = Vec::new();
        for _ in 0..8 {
            let mut other = Wire::connect(sortie.listen()).await;
            other.send(query.bytes()).await;
            others.push(other);
        }
        for other in &mut others {
            assert_eq!(gist(&other.until_ready().await), expected, "{text}");
        }
        others[0].rows("SET client_min_messages = 'warning'").await;
        assert_eq!(gist(&others[0].ask(&query).await).1.len(), 0, "{text}");
        assert_eq!(shared(&sortie).await - before, 9, "{text}");
    }
    drop((wire, direct));
    sortie.stop().await;
}
