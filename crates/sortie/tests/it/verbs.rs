//! Scatter, error group and read-through where callers put them: inside a spawned task, inside a
//! flight, behind a generic function, and with the error types of real database clients.

use std::error::Error as StdError;
use std::mem::size_of_val;
use std::sync::Arc;
use std::time::Duration;

use sortie::{
    ErrGroup, FlightError, GroupError, MemoryCache, MemoryLease, MemoryWait, Position, ReadThrough,
    Scatter, ScatterError, ScatterLedger, SingleFlight, Stop,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What a shard's handle is to a caller: cheap, owned.
#[derive(Clone)]
struct Shard(Arc<u64>);

impl Shard {
    async fn sum<E: StdError + Send>(self) -> Result<u64, E> {
        sleep(Duration::from_millis(1)).await;
        Ok(*self.0)
    }
}

fn shards() -> Vec<Shard> {
    (1..=3).map(|sum| Shard(Arc::new(sum))).collect()
}

/// A caller that knows nothing of its shards and errors, and must be spawnable itself.
async fn total<L, E, F, Fut>(legs: Vec<L>, sum: F) -> Result<u64, ScatterError<u64, E>>
where
    L: Send,
    F: Fn(L) -> Fut + Send,
    Fut: Future<Output = Result<u64, E>> + Send,
    E: Send,
{
    Ok(Scatter::over(legs).run(sum).await?.into_iter().sum())
}

async fn total_in_a_group<E: Send + 'static>(
    legs: Vec<impl Future<Output = Result<(), E>> + Send>,
) -> Result<usize, GroupError<E>> {
    let scope = ErrGroup::new().limit(2).scope(|group| async move {
        let count = legs.len();
        for leg in legs {
            group.spawn(leg).await?;
        }
        Ok(count)
    });
    scope.await
}

async fn get_user_balance<E: Send + Sync + 'static>(
    balances: ReadThrough<u64, u64, E>,
    user: u64,
) -> Result<u64, FlightError<E>> {
    balances.get(&user).await
}

async fn spawned<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let mut owner = JoinSet::new();
    owner.spawn(future);
    owner.join_next().await.expect("one task was spawned").expect("the task does not panic")
}

async fn each_verb_with<E: StdError + Send + Sync + 'static>() {
    assert_eq!(spawned(total(shards(), Shard::sum::<E>)).await.ok(), Some(6));

    let legs = || shards().into_iter().map(|shard| async move { shard.sum::<E>().await.map(drop) });
    assert_eq!(spawned(total_in_a_group(legs().collect())).await.ok(), Some(3));

    let balances = ReadThrough::new(MemoryCache::new(10), |user| Shard(Arc::new(user)).sum::<E>());
    assert_eq!(spawned(get_user_balance(balances.clone(), 42)).await.ok(), Some(42));

    let flights = SingleFlight::<&str, u64, ScatterError<u64, E>>::new();
    let scattered = move || total(shards(), Shard::sum::<E>);
    assert_eq!(flights.run("scatter", scattered).await.ok(), Some(6));

    let flights = SingleFlight::<&str, usize, GroupError<E>>::new();
    let grouped = move || total_in_a_group(legs().collect());
    assert_eq!(flights.run("group", grouped).await.ok(), Some(3));

    let flights = SingleFlight::<&str, u64, FlightError<E>>::new();
    let through = move || get_user_balance(balances.clone(), 7);
    assert_eq!(flights.run("read-through", through).await.ok(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn each_verb_works_with_the_errors_of_sqlx() {
    each_verb_with::<sqlx::Error>().await;
}

#[tokio::test(start_paused = true)]
async fn each_verb_works_with_the_errors_of_tokio_postgres() {
    each_verb_with::<tokio_postgres::Error>().await;
}

#[tokio::test]
async fn the_clients_own_error_is_the_source_all_the_way_down() {
    let flights = SingleFlight::new();
    let ask = || {
        let visit =
            |leg| async move { if leg == 1 { Err(sqlx::Error::RowNotFound) } else { Ok(()) } };
        async move { Scatter::over([0, 1]).run(visit).await.map(drop) }
    };
    let error = flights.run("k", ask).await.unwrap_err();
    let scatter = error.source().unwrap();
    assert_eq!(scatter.to_string(), "shard 1 failed");
    let client = scatter.source().unwrap().downcast_ref::<sqlx::Error>().unwrap();
    assert!(matches!(client, sqlx::Error::RowNotFound));
}

#[test]
fn handles_and_errors_cross_threads() {
    fn sent<T: Send>() {}
    fn check<T: Send + Sync + Unpin>() {}
    sent::<MemoryWait>();
    check::<Scatter<Shard>>();
    check::<ScatterLedger>();
    check::<ScatterError<u64, sqlx::Error>>();
    check::<ErrGroup>();
    check::<GroupError<sqlx::Error>>();
    check::<Stop<sqlx::Error>>();
    check::<MemoryCache<u64, u64>>();
    check::<MemoryLease<u64, u64>>();
    check::<ReadThrough<u64, u64, sqlx::Error>>();
    check::<Position>();
}

#[test]
fn futures_stay_small() {
    let scatter = Scatter::over(shards()).run(Shard::sum::<sqlx::Error>);
    assert!(size_of_val(&scatter) <= 1_536, "a scatter: {} bytes", size_of_val(&scatter));

    let scope = total_in_a_group(vec![std::future::ready(Ok::<_, sqlx::Error>(()))]);
    assert!(size_of_val(&scope) <= 1_024, "a group's scope: {} bytes", size_of_val(&scope));

    let balances = ReadThrough::new(MemoryCache::new(1), |_user| Shard(Arc::new(1)).sum());
    let get = get_user_balance::<sqlx::Error>(balances, 1);
    assert!(size_of_val(&get) <= 256, "a read-through: {} bytes", size_of_val(&get));
}
