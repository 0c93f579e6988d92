//! Reads that share and still see the caller's own writes: joins by moment, and loads that say when
//! they begin.
//!
//! ```text
//! cargo run -p sortie --example read_your_writes
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use sortie::{Call, FlightError, Join, Landed, SingleFlight};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// A row, behind a pool of one connection. A query reads the row when it is sent and takes 20 ms.
struct Db {
    balance: AtomicU64,
    pool: Semaphore,
}

type Flights = SingleFlight<u64, u64, std::io::Error>;

async fn read(
    flights: &Flights,
    db: &Arc<Db>,
    join: Join,
) -> Result<Landed<u64>, FlightError<std::io::Error>> {
    let db = Arc::clone(db);
    let load = move |cx: sortie::FlightCx| {
        let db = Arc::clone(&db);
        async move {
            let boarding = cx.boarding(); // Nothing is sent before there is a connection.
            let _connection = db.pool.acquire().await.expect("it is never closed");
            drop(boarding);
            let balance = db.balance.load(SeqCst);
            sleep(Duration::from_millis(20)).await;
            Ok(balance)
        }
    };
    flights.run_with(42, Call::new().join(join), load).await
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), FlightError<std::io::Error>> {
    let db = Arc::new(Db { balance: AtomicU64::new(100), pool: Semaphore::new(1) });
    let flights = Flights::builder().boarding(true).build();

    let other = read(&flights, &db, Join::Running);
    let session = async {
        sleep(Duration::from_millis(5)).await;
        db.balance.store(70, SeqCst);
        let written = Instant::now();
        sleep(Duration::from_millis(1)).await;
        let any = read(&flights, &db, Join::Running).await?.value;
        let own = read(&flights, &db, Join::Since(written)).await?.value;
        println!("after its write the session may be given {any}; since its write, {own}");
        Ok::<_, FlightError<std::io::Error>>(())
    };
    let (other, session) = tokio::join!(other, session);
    session?;
    println!("the other reader had {}", other?.value);

    // The only connection is out: the load has not begun, and whoever comes shares it.
    let connection = db.pool.acquire().await.expect("it is never closed");
    let free = async {
        sleep(Duration::from_millis(50)).await;
        drop(connection);
    };
    let late = async {
        sleep(Duration::from_millis(40)).await;
        read(&flights, &db, Join::Fresh).await
    };
    let (first, late, ()) = tokio::join!(read(&flights, &db, Join::Fresh), late, free);
    let (first, late) = (first?, late?);
    println!(
        "one load for both: {}, {:?} and {:?}",
        first.began == late.began,
        first.role,
        late.role
    );
    Ok(())
}
