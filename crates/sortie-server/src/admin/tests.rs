use sortie_sqlite::{Embedded, EmbeddedConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::*;

/// An admin address over a cluster of ten rows.
struct Stage {
    admin: Arc<Admin>,
    drain: watch::Sender<bool>,
    _embedded: Embedded,
}

fn stage(fail: &[&str]) -> Stage {
    let mut config = EmbeddedConfig::default();
    (config.rows, config.workers) = (10, 1);
    config.trouble.fail = fail.iter().map(|address| address.parse().unwrap()).collect();
    let embedded = Embedded::create(&config).unwrap();
    let (drain, draining) = watch::channel(false);
    let scrape = Box::new(Snapshot::default);
    let shards = embedded.shards().to_vec();
    let ready = Box::new(move || -> Readiness { Box::pin(probe(shards.clone())) });
    let set_mode = Box::new(|cluster: &str, _mode| match cluster {
        "bank" => Ok(()),
        _ => Err("there are: bank".to_owned()),
    });
    let admin = Admin { scrape, ready, set_mode, reload: None, draining };
    Stage { admin: Arc::new(admin), drain, _embedded: embedded }
}

/// Sends `request` to a server with `stage` and returns all that comes back.
async fn ask(stage: &Stage, request: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    tokio::select! {
        never = serve(listener, Arc::clone(&stage.admin)) => match never {},
        read = client.read_to_string(&mut reply) => { read.unwrap(); }
    }
    reply
}

async fn get(stage: &Stage, path: &str) -> String {
    ask(stage, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn each_path_answers_and_others_are_told_which_there_are() {
    let stage = stage(&[]);
    let metrics = get(&stage, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(metrics.contains("content-type: application/openmetrics-text"), "{metrics}");
    assert!(get(&stage, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&stage, "/readyz").await.starts_with("HTTP/1.1 200"));
    let unknown = get(&stage, "/").await;
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert!(unknown.contains(path), "{unknown}");
    }
    let posted = "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(ask(&stage, posted).await.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn one_answering_replica_makes_a_shard_ready() {
    assert!(get(&stage(&["0.0", "0.1", "1.2"]), "/readyz").await.starts_with("HTTP/1.1 200"));
    let down = get(&stage(&["1"]), "/readyz").await;
    assert!(down.starts_with("HTTP/1.1 503") && down.contains("replica 0 of shard 1"), "{down}");
}

#[tokio::test]
async fn nobody_is_sent_to_a_server_that_drains() {
    let stage = stage(&[]);
    stage.drain.send(true).unwrap();
    let draining = get(&stage, "/readyz").await;
    assert!(draining.starts_with("HTTP/1.1 503") && draining.contains("draining"), "{draining}");
    assert!(get(&stage, "/healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_request_that_drips_or_never_ends_is_given_up() {
    let stage = stage(&[]);
    tokio::time::pause();
    let began = Instant::now();
    assert_eq!(ask(&stage, "GET /metrics HTTP/1.1\r\nHost:").await, "");
    assert!(began.elapsed() < REQUEST_MAX * 2, "after {:?}", began.elapsed());
    let huge = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_MAX));
    let refused = ask(&stage, &huge).await;
    assert!(refused.starts_with("HTTP/1.1 4"), "{refused}");
}

#[tokio::test]
async fn a_mode_is_set_by_post() {
    let stage = stage(&[]);
    let post = async |path: &str| {
        ask(&stage, &format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    };
    assert!(post("/mode/bank/observe").await.starts_with("HTTP/1.1 200"));
    assert!(post("/mode/nope/observe").await.starts_with("HTTP/1.1 404"));
    assert!(post("/mode/bank/nope").await.starts_with("HTTP/1.1 400"));
    assert!(get(&stage, "/mode/bank/pipe").await.starts_with("HTTP/1.1 405"));
}
