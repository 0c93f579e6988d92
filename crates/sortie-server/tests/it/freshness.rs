//! Who begins to read after a write sees the write, whatever loads were running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rusqlite::Connection;
use sortie_testkit::Wire;
use tokio::task::JoinSet;

use crate::support::{among_others, ids_on, replica_file, serve, spent};

const WRITES: i64 = 200;
const READERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_begins_after_a_write_never_gets_an_older_row() {
    let _others = among_others().await;
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let server = serve(&["--data", folder, "--latency", "fixed:5ms"]).await;
    let id = ids_on(data.path(), 0, 1)[0];
    let sql = format!("SELECT balance FROM users WHERE user_id = {id}");

    // They keep flights of this very key running all the time.
    let before = server.metrics().await;
    let over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (over, sql, listen) = (Arc::clone(&over), sql.clone(), server.listen());
        readers.spawn(async move {
            let mut wire = Wire::connect(listen).await;
            while !over.load(Relaxed) {
                wire.rows(&sql).await;
            }
        });
    }

    let files: Vec<Connection> = (0..3)
        .map(|replica| Connection::open(replica_file(data.path(), 0, replica)).unwrap())
        .collect();
    let mut reader = Wire::connect(server.listen()).await;
    for version in 1..=WRITES {
        for file in &files {
            file.pragma_update(None, "synchronous", "OFF").unwrap();
            let update = "UPDATE users SET balance = ?1 WHERE user_id = ?2";
            assert_eq!(file.execute(update, [version, id]).unwrap(), 1);
        }
        let seen = reader.rows(&sql).await;
        assert_eq!(seen, [[Some(version.to_string())]], "a load from before write {version}");
    }
    over.store(true, Relaxed);
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
    drop(reader);
    let spent = spent(&before, &server.abandoned().await);
    assert!(spent.followers > 0.0, "nobody joined anything, so nothing was tested: {spent:?}");
    server.stop().await;
}
