//! The usual fan-out: a task for each shard, their handles awaited in order.
//!
//! The article only names its third pattern; this is what one writes without it.

/// Asks every shard at once and collects the answers in order; stops at the first error it *sees*.
///
/// It looks at shard 1 only after shard 0 has answered, and the tasks it leaves behind run on.
pub(crate) async fn ask_every_shard<S, T, E, Fut>(
    shards: Vec<S>,
    query: impl Fn(S) -> Fut,
) -> Result<Vec<T>, E>
where
    T: Send + 'static,
    E: Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    let legs: Vec<_> = shards.into_iter().map(|shard| go(query(shard))).collect();
    let mut answers = Vec::with_capacity(legs.len());
    for leg in legs {
        answers.push(leg.await.expect("no leg panics")?);
    }
    Ok(answers)
}

/// Go's `go`: a task that nobody owns or can end; dropping its handle leaves it running.
#[expect(clippy::disallowed_methods, reason = "a task without an owner is what the baseline has")]
fn go<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
