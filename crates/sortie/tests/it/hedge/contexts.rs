//! Where a hedged call must fit in: tasks, flights, generic callers, other crates' errors.

use std::fmt::Debug;
use std::time::Duration;

use sortie::{
    Cluster, Hedge, HedgeError, HedgeErrorKind, ReplicaSet, ShardMap, SingleFlight, first_ok,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

fn hedge() -> Hedge {
    Hedge::after(Duration::from_millis(10))
}

fn send<T: Send + 'static>(value: T) -> T {
    value
}

/// A caller that knows nothing but bounds can spawn every verb.
async fn spawn_all<R, T, E, F, Fut>(replicas: Vec<R>, attempt: F) -> Vec<T>
where
    R: Clone + Send + Sync + 'static,
    T: Send + 'static,
    E: Debug + Send + 'static,
    F: Fn(R) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    tasks.spawn(first_ok(replicas.clone(), attempt.clone()));
    let set = ReplicaSet::new(replicas);
    tasks.spawn(hedge().run(&set, attempt.clone()));
    let cluster = Cluster::new(ShardMap::pg_hash(1), [set], hedge());
    tasks.spawn(cluster.read("key", attempt.clone()));
    tasks.spawn(cluster.read_shard(cluster.shard_of(1), attempt));
    drop(cluster); // The futures borrow nothing.
    let answers = tasks.join_all().await;
    answers.into_iter().map(|answer| answer.unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_verb_runs_in_a_task_from_a_generic_caller() {
    let answers = spawn_all(vec![90, 1], |ms| async move {
        sleep(Duration::from_millis(ms)).await;
        Ok::<_, std::io::Error>("row")
    });
    assert_eq!(answers.await, ["row"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_flight_loads_through_a_hedge() {
    let flights: SingleFlight<u64, u64, HedgeError<sqlx::Error>> = SingleFlight::new();
    let (replicas, hedge) = (ReplicaSet::new([1, 90]), hedge());
    let load = move || {
        hedge.run(&replicas, |ms| async move {
            sleep(Duration::from_millis(ms)).await;
            if ms == 1 { Err(sqlx::Error::PoolTimedOut) } else { Ok(ms) }
        })
    };
    let task = async move { flights.run(7, load).await.unwrap() };
    assert_eq!(JoinSet::from_iter([send(task)]).join_all().await, [90]);
}

#[tokio::test(start_paused = true)]
async fn a_flight_loads_through_a_cluster() {
    let flights: SingleFlight<i64, String, HedgeError<sqlx::Error>> = SingleFlight::new();
    let shards = [["0.0", "0.1"], ["1.0", "1.1"]].map(ReplicaSet::new);
    let cluster = Cluster::new(ShardMap::pg_hash(2), shards, hedge());
    let user = 42;
    let load = move || {
        cluster.read(user, |replica| async move {
            Err::<String, _>(sqlx::Error::Protocol(format!("{replica} is down")))
        })
    };
    let error = flights.run(user, load).await.unwrap_err();
    let shown = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(shown, "0: the replica failed (1 more failed)");
}

#[tokio::test(start_paused = true)]
async fn errors_of_database_clients_keep_their_type() {
    let replicas = ReplicaSet::new(["port=none", "port=nil"]);
    let attempt = |config: &'static str| async move {
        sleep(Duration::from_millis(1)).await;
        config.parse::<tokio_postgres::Config>()
    };
    let error = send(hedge().run(&replicas, attempt)).await.unwrap_err();
    assert_eq!(error.kind(), HedgeErrorKind::Exhausted);
    let cause: tokio_postgres::Error = error.into_error().unwrap();
    assert_eq!(cause.to_string(), "invalid connection string");

    let error = first_ok([1, 2], |_| async { Err::<(), _>(sqlx::Error::RowNotFound) });
    let cause = send(error).await.unwrap_err().into_error();
    assert!(matches!(cause, Some(sqlx::Error::RowNotFound)));
}

#[tokio::test(start_paused = true)]
async fn attempts_may_borrow_from_the_caller() {
    let (rows, replicas) = (vec![String::from("row")], ReplicaSet::new([0]));
    let row = hedge().run(&replicas, |place| {
        let rows = &rows;
        async move { Ok::<_, ()>(&rows[place]) }
    });
    assert_eq!(row.await.unwrap(), "row");
}

#[test]
fn a_call_that_never_waits_needs_no_runtime() {
    use std::task::{Context, Poll, Waker};
    let (hedge, replicas) = (hedge(), ReplicaSet::new(["down", "up"]));
    let mut call =
        std::pin::pin!(hedge.run(&replicas, |replica| async move {
            if replica == "up" { Ok(()) } else { Err(()) }
        }));
    let Poll::Ready(answer) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("nobody was waited for");
    };
    answer.unwrap();
}

#[test]
fn handles_and_errors_are_send_sync_and_cheap_to_clone() {
    fn check<T: Clone + Send + Sync + Debug + 'static>() {}
    check::<Hedge>();
    check::<ReplicaSet<u8>>();
    check::<Cluster<u8>>();
    check::<ShardMap>();
    check::<HedgeError<String>>();
    assert_eq!(size_of::<Hedge>(), size_of::<usize>());
    assert_eq!(size_of::<ReplicaSet<[u64; 9]>>(), size_of::<usize>());
    assert_eq!(size_of::<Cluster<[u64; 9]>>(), size_of::<usize>());
    assert_eq!(size_of::<HedgeError<[u64; 9]>>(), size_of::<usize>());
}

#[test]
fn a_call_is_not_much_larger_than_its_attempt() {
    // The attempt is kept once, in place: a call over a large future is larger by that future
    // alone, and by nothing else that grows with it.
    let size_over = |payload| {
        let replicas = ReplicaSet::new([0]);
        match payload {
            0 => size_of_val(&hedge().run(&replicas, attempt::<0>)),
            _ => size_of_val(&hedge().run(&replicas, attempt::<1024>)),
        }
    };
    let overhead = size_over(0);
    assert!(overhead <= 640, "{overhead} bytes for the machinery");
    let grown = size_over(1024) - overhead;
    assert!(grown <= 1024 + 64, "{grown} bytes for 1024 more in the attempt");
}

async fn attempt<const N: usize>(replica: usize) -> Result<u8, ()> {
    let payload = [0; N];
    sleep(Duration::from_millis(1)).await;
    Ok(payload.get(replica).copied().unwrap_or_default())
}
