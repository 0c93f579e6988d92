//! The article's "Moving Later" as it stands: ask every replica, the first to speak is right.
//!
//! A baseline, written for these examples: the idea and its faults are the article's.

use tokio::sync::mpsc;

/// Sends the query to all `replicas` and returns whatever arrives first, an error included.
///
/// Hangs for ever when `replicas` is empty. The other queries run on, and nobody waits for them.
pub(crate) async fn distributed_query<R, T, Fut>(replicas: Vec<R>, query: impl Fn(R) -> Fut) -> T
where
    T: Send + 'static,
    Fut: Future<Output = T> + Send + 'static,
{
    let (responses, mut first) = mpsc::channel(1);
    for replica in replicas {
        let (responses, response) = (responses.clone(), query(replica));
        go(async move {
            // The buffer holds the one answer that is wanted; the rest are thrown away.
            drop(responses.try_send(response.await));
        });
    }
    // `responses` is still alive here, as a Go channel is, so no replicas means no end.
    first.recv().await.expect("this function holds a sender")
}

/// Go's `go`: a task that nobody owns, waits for or can end.
#[expect(clippy::disallowed_methods, reason = "a task without an owner is what the baseline has")]
fn go(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}
