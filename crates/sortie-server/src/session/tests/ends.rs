use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_client_that_leaves_takes_its_read_along() {
    let mut endpoint = Endpoint::new(&[Act::Hang]);
    let mut client = endpoint.login().await;
    client.send(&encoded(&[query(READ)])).await;
    endpoint.awaiting(1).await;
    drop(client);
    endpoint.ended().await;
}

#[tokio::test]
async fn what_is_sent_ahead_is_kept_while_a_read_is_awaited() {
    let mut endpoint = Endpoint::new(&[Act::Hang]);
    let mut client = endpoint.login().await;
    client.send(&encoded(&[query("set statement_timeout = 50; show timezone")])).await;
    assert!(client.until('Z').await.ends_with("ZI"));
    client.send(&encoded(&[query(READ)])).await;
    endpoint.awaiting(1).await;
    client.send(&encoded(&[query(READ), query("begin")])).await;
    assert_eq!(client.until('Z').await, "E[ERROR 57014] ZI");
    assert_eq!(client.until('Z').await, "T D1 C[SELECT 1] ZI");
    assert_eq!(client.until('Z').await, "C[BEGIN] ZT");
}

#[tokio::test]
async fn reading_ahead_stops_at_its_bound() {
    let limits = Limits { frame_max: 1_000, ..Limits::default() };
    let mut endpoint = Endpoint::with(&[Act::Hang], limits);
    let mut client = endpoint.dial_with(64);
    client.startup(0, &[("user", "alice")]).await;
    client.until('Z').await;
    client.send(&encoded(&[query(READ)])).await;
    endpoint.awaiting(1).await;
    let ahead = encoded(&[query("begin")]).repeat(10_000);
    let sent = timeout(Duration::from_millis(100), client.stream.write_all(&ahead));
    sent.await.expect_err("nobody takes so much");
}

/// Cancels by the key that `client` was given.
async fn cancel(endpoint: &mut Endpoint, process: i32, secret: &[u8]) {
    let mut canceller = endpoint.dial();
    let secret = Bytes::copy_from_slice(secret);
    canceller.send_startup(&Startup::Cancel { process, secret }).await;
    assert_eq!(canceller.until('Z').await, "EOF");
}

async fn login_with_key(endpoint: &mut Endpoint) -> (Client, i32, Bytes) {
    let mut client = endpoint.dial();
    client.startup(0, &[("user", "alice")]).await;
    let mut key = loop {
        if let ('K', body) = client.frame().await.unwrap() {
            break body;
        }
    };
    client.until('Z').await;
    (client, key.get_i32(), key)
}

#[tokio::test]
async fn a_cancel_ends_the_statement_and_not_the_session() {
    let mut endpoint = Endpoint::new(&[Act::Hang, Act::Hang]);
    let (mut one, process, secret) = login_with_key(&mut endpoint).await;
    let (mut two, other, other_secret) = login_with_key(&mut endpoint).await;
    for client in [&mut one, &mut two] {
        client.send(&encoded(&[query(&format!("{READ}; {READ}"))])).await;
    }
    endpoint.awaiting(2).await;
    cancel(&mut endpoint, process, &other_secret).await;
    cancel(&mut endpoint, process, &secret[..3]).await;
    assert_eq!(endpoint.sessions.stats().cancels, 0);
    cancel(&mut endpoint, process, &secret).await;
    assert_eq!(one.until('Z').await, "E[ERROR 57014] ZI");
    endpoint.awaiting(1).await;
    // It runs nothing now: this one comes too late, and the next statement must not feel it.
    cancel(&mut endpoint, process, &secret).await;
    assert_eq!(one.ask(&[query(READ)]).await, "T D1 C[SELECT 1] ZI");
    cancel(&mut endpoint, other, &other_secret).await;
    assert_eq!(two.until('Z').await, "E[ERROR 57014] ZI");
    assert_eq!(endpoint.sessions.stats().cancels, 3);
    drop((one, two));
    endpoint.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_statement_timeout_is_the_callers_deadline() {
    let mut endpoint = Endpoint::new(&[Act::Hang]);
    let mut client = endpoint.login().await;
    assert_eq!(client.ask(&[query("set statement_timeout = '2s'")]).await, "C[SET] ZI");
    let start = Instant::now();
    assert_eq!(client.ask(&[query(READ)]).await, "E[ERROR 57014] ZI");
    assert_eq!(start.elapsed(), Duration::from_secs(2));
}

#[tokio::test]
async fn idle_sessions_end_at_once_when_the_endpoint_drains() {
    let mut endpoint = Endpoint::new(&[]);
    let mut idle = endpoint.login().await;
    let mut within = endpoint.login().await;
    assert_eq!(within.ask(&[query("begin")]).await, "C[BEGIN] ZT");
    endpoint.drain.send_replace(true);
    assert_eq!(idle.until('Z').await, "E[FATAL 57P01] EOF");
    assert_eq!(within.until('Z').await, "E[FATAL 57P01] EOF");
    endpoint.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_running_statement_is_finished_when_the_endpoint_drains() {
    let mut endpoint = Endpoint::new(&[Act::Hang, Act::Hang, Act::Hang]);
    let (mut simple, mut extended) = (endpoint.login().await, endpoint.login().await);
    let mut several = endpoint.login().await;
    for client in [&mut simple, &mut extended, &mut several] {
        client.ask(&[query("set statement_timeout = '1s'")]).await;
    }
    simple.send(&encoded(&[query(READ), query(READ)])).await;
    let batch = [parse("", READ), bind("", ""), execute("", 0), Frontend::Sync];
    extended.send(&encoded(&batch)).await;
    endpoint.awaiting(2).await;
    several.send(&encoded(&[query(&format!("{READ}; {READ}"))])).await;
    endpoint.awaiting(3).await;
    endpoint.drain.send_replace(true);
    assert_eq!(simple.until('Z').await, "E[ERROR 57014] ZI");
    assert_eq!(simple.until('Z').await, "E[FATAL 57P01] EOF");
    assert_eq!(extended.until('Z').await, "1 2 E[ERROR 57014] ZI");
    assert_eq!(extended.until('Z').await, "E[FATAL 57P01] EOF");
    assert_eq!(several.until('Z').await, "E[ERROR 57014] ZI");
    endpoint.ended().await;
}

#[tokio::test]
async fn a_text_of_statements_ends_between_two_when_the_endpoint_drains() {
    let limits = Limits { egress_max: 100, ..Limits::default() };
    let mut endpoint = Endpoint::with(&[], limits);
    let mut client = endpoint.dial_with(1_000);
    client.startup(0, &[("user", "alice")]).await;
    client.until('Z').await;
    // The answer does not fit into the connection, so that it is still being given.
    let asked = encoded(&[query(&"reset timezone;".repeat(1_000))]);
    let (mut reads, mut writes) = tokio::io::split(client.stream);
    let write = async { writes.write_all(&asked).await.unwrap() };
    let read = async {
        let mut answer = vec![0; 100];
        reads.read_exact(&mut answer).await.unwrap();
        endpoint.drain.send_replace(true);
        reads.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let ((), answer) = tokio::join!(write, read);
    endpoint.ended().await;
    let found = |wanted: &[u8]| answer.windows(wanted.len()).filter(|&at| at == wanted).count();
    assert!((1..1_000).contains(&found(b"RESET\0")), "{}", found(b"RESET\0"));
    assert_eq!((found(b"C57P01\0"), answer.last()), (1, Some(&0)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_ended() {
    let mut endpoint = Endpoint::new(&[Act::Bytes(100_000)]);
    let mut client = endpoint.dial_with(4_096);
    client.startup(0, &[("user", "alice")]).await;
    client.until('Z').await;
    let start = Instant::now();
    client.send(&encoded(&[query(READ)])).await;
    while endpoint.sessions.stats().stalls == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(start.elapsed() < Duration::from_secs(31));
    endpoint.ended().await;
    drop(client);
}

#[tokio::test]
async fn long_rows_arrive_whole() {
    let mut endpoint = Endpoint::new(&[Act::Bytes(200_000)]);
    let mut client = endpoint.dial_with(1_000);
    client.startup(0, &[("user", "alice")]).await;
    client.until('Z').await;
    let transcript = client.ask(&[query(READ)]).await;
    assert_eq!(transcript, format!("T D{} C[SELECT 1] ZI", "x".repeat(200_000)));
}

#[tokio::test]
async fn a_terminate_ends_the_session_quietly() {
    let mut endpoint = Endpoint::new(&[]);
    let mut client = endpoint.login().await;
    // Even where everything else is skipped.
    client.send(&encoded(&[parse("", "selec"), Frontend::Terminate])).await;
    assert_eq!(client.until('Z').await, "E[ERROR 42601] EOF");
    endpoint.ended().await;
}

#[tokio::test]
async fn garbage_leaves_nothing_behind() {
    // SplitMix64 (Steele, Lea, Flood 2014), for the same rounds on every machine.
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut endpoint = Endpoint::new(&[]);
    let stream = encoded(&[
        parse("s", READ),
        bind("p", "s"),
        execute("p", 1),
        Frontend::Sync,
        query("begin; show all"),
        query(READ),
    ]);
    for round in 0..1_000 {
        let mut client = endpoint.dial();
        let mut bytes = stream.clone();
        if round % 4 == 0 {
            bytes.iter_mut().for_each(|byte| *byte = random().to_le_bytes()[0]);
        } else {
            client.startup(0, &[("user", "alice")]).await;
            let at = usize::try_from(random() % bytes.len() as u64).unwrap();
            bytes[at] = random().to_le_bytes()[0];
        }
        bytes.truncate(usize::try_from(random() % bytes.len() as u64).unwrap());
        // The other end may have had enough.
        if client.stream.write_all(&bytes).await.is_ok() && round % 2 == 0 {
            client.stream.shutdown().await.unwrap();
            client.until('\0').await;
        }
    }
    endpoint.ended().await;
}
