//! Single flight against its floors and its peers, in one run.
//!
//! `uncontended`: another key for every call, a load that is ready at once, one thread; the floor
//! locks a map, inserts the key and removes it. `herd`: a thousand callers of one key wait for a
//! load that is held back until all are there, two threads; the time runs from its release to the
//! last answer, and the floor is one `Notify`. `zipf`: 64 tasks on two threads ask for 10,000 keys,
//! the first of them most often (exponent 1), and a load yields once; the floor loads without
//! asking who else does. `two threads`: as `uncontended`, on two threads at once; the time is each
//! one's, so a type that scales takes as long as on one. The caches are used as single flights: the
//! key is removed when its load has ended.
#![expect(clippy::unwrap_used, reason = "a benchmark that meets an error has failed")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sortie::SingleFlight;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

const KEYS: usize = 4096;
const HERD: usize = 1000;
const TASKS: usize = 64;
const SKEWED_KEYS: usize = 10_000;
const CALLS: usize = TASKS * 400;

trait Flies: Send + Sync + 'static {
    fn new() -> Self;
    /// Runs `load` for the key unless it is running already.
    fn call<L, F>(&self, key: &str, load: L) -> impl Future<Output = u64> + Send
    where
        L: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = u64> + Send + 'static;
}

struct Sortie(SingleFlight<String, u64, Infallible>);

impl Flies for Sortie {
    fn new() -> Self {
        Self(SingleFlight::new())
    }

    async fn call<L, F>(&self, key: &str, load: L) -> u64
    where
        L: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = u64> + Send + 'static,
    {
        let load = move || {
            let load = load();
            async move { Ok(load.await) }
        };
        self.0.run(key.to_owned(), load).await.unwrap()
    }
}

struct SingleflightAsync(singleflight_async::SingleFlight<String, u64>);

impl Flies for SingleflightAsync {
    fn new() -> Self {
        Self(singleflight_async::SingleFlight::new())
    }

    async fn call<L, F>(&self, key: &str, load: L) -> u64
    where
        L: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = u64> + Send + 'static,
    {
        self.0.work(key.to_owned(), load).await
    }
}

struct QuickCache(quick_cache::sync::Cache<String, u64>);

impl Flies for QuickCache {
    fn new() -> Self {
        Self(quick_cache::sync::Cache::new(1_000_000))
    }

    async fn call<L, F>(&self, key: &str, load: L) -> u64
    where
        L: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = u64> + Send + 'static,
    {
        let mut led = false;
        let load = async {
            led = true;
            Ok::<_, Infallible>(load().await)
        };
        let value = self.0.get_or_insert_async(key, load).await.unwrap();
        if led {
            self.0.remove(key);
        }
        value
    }
}

struct Moka(moka::future::Cache<String, u64>);

impl Flies for Moka {
    fn new() -> Self {
        Self(moka::future::Cache::new(1_000_000))
    }

    async fn call<L, F>(&self, key: &str, load: L) -> u64
    where
        L: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = u64> + Send + 'static,
    {
        let mut led = false;
        let load = async {
            led = true;
            load().await
        };
        let value = self.0.get_with_by_ref(key, load).await;
        if led {
            self.0.invalidate(key).await;
        }
        value
    }
}

/// What anybody must do who marks a key as in flight and takes the mark back.
struct LockInsertRemove(Mutex<HashMap<String, u64>>);

impl Flies for LockInsertRemove {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    async fn call<L, F>(&self, key: &str, load: L) -> u64
    where
        L: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = u64> + Send + 'static,
    {
        self.0.lock().unwrap().insert(key.to_owned(), 0);
        let value = load().await;
        self.0.lock().unwrap().remove(key);
        value
    }
}

async fn uncontended_burst<S: Flies>(flies: &S, keys: &[String], calls: u64) -> Duration {
    let begun = Instant::now();
    for call in 0..calls {
        let key = &keys[usize::try_from(call).unwrap() % keys.len()];
        black_box(flies.call(key, move || async move { black_box(call) }).await);
    }
    begun.elapsed()
}

fn uncontended(c: &mut Criterion) {
    fn measure<S: Flies>(c: &mut Criterion, name: &str) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let keys: Vec<String> = (0..KEYS).map(|key| format!("user:{key:08}")).collect();
        let flies = S::new();
        c.benchmark_group("singleflight/uncontended").bench_function(name, |b| {
            b.to_async(&runtime).iter_custom(|calls| uncontended_burst(&flies, &keys, calls));
        });
    }
    measure::<LockInsertRemove>(c, "floor: lock, insert, remove");
    measure::<Sortie>(c, "sortie");
    measure::<SingleflightAsync>(c, "singleflight-async");
    measure::<QuickCache>(c, "quick_cache");
    measure::<Moka>(c, "moka");
}

/// As a flight for each call, but nobody looks for anybody else's.
struct Alone;

impl Flies for Alone {
    fn new() -> Self {
        Self
    }

    async fn call<L, F>(&self, _key: &str, load: L) -> u64
    where
        L: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = u64> + Send + 'static,
    {
        load().await
    }
}

/// Which key comes next: the n-th of them is asked for 1 / n as often as the first.
fn zipf(keys: usize, calls: usize) -> Vec<usize> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += 1.0 / f64::from(u32::try_from(rank).unwrap());
            sum
        })
        .collect();
    let mut state = 0x9E37_79B9_u32;
    let draw = |_| {
        // Xorshift: the same sequence for everybody.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let at = f64::from(state) / f64::from(u32::MAX) * sum;
        sums.partition_point(|sum| *sum < at).min(keys - 1)
    };
    (0..calls).map(draw).collect()
}

async fn zipf_burst<S: Flies>(flies: Arc<S>, plan: Arc<(Vec<String>, Vec<usize>)>) -> Duration {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (flies, plan) = (Arc::clone(&flies), Arc::clone(&plan));
        tasks.spawn(async move {
            let (keys, order) = &*plan;
            for key in order.iter().skip(task).step_by(TASKS) {
                let load = || async {
                    yield_now().await;
                    7
                };
                assert_eq!(flies.call(&keys[*key], load).await, 7);
            }
        });
    }
    tasks.join_all().await;
    begun.elapsed()
}

fn skewed(c: &mut Criterion) {
    fn measure<S: Flies>(c: &mut Criterion, name: &str) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let keys = (0..SKEWED_KEYS).map(|key| format!("user:{key:08}")).collect();
        let plan = Arc::new((keys, zipf(SKEWED_KEYS, CALLS)));
        let flies = Arc::new(S::new());
        let mut group = c.benchmark_group("singleflight/zipf");
        group.throughput(Throughput::Elements(CALLS as u64)).sample_size(20);
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let burst = || zipf_burst(Arc::clone(&flies), Arc::clone(&plan));
                (0..rounds).map(|_| runtime.block_on(runtime.spawn(burst())).unwrap()).sum()
            });
        });
    }
    measure::<Alone>(c, "floor: no single flight");
    measure::<Sortie>(c, "sortie");
    measure::<SingleflightAsync>(c, "singleflight-async");
    measure::<QuickCache>(c, "quick_cache");
    measure::<Moka>(c, "moka");
}

fn two_threads(c: &mut Criterion) {
    fn measure<S: Flies>(c: &mut Criterion, name: &str) {
        let keys: Vec<String> = (0..KEYS).map(|key| format!("user:{key:08}")).collect();
        let (here, there) = keys.split_at(KEYS / 2);
        let flies = S::new();
        let burst = |keys: &[String], calls| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(uncontended_burst(&flies, keys, calls))
        };
        let mut group = c.benchmark_group("singleflight/two threads");
        group.bench_function(name, |b| {
            b.iter_custom(|calls| {
                std::thread::scope(|scope| {
                    let other = scope.spawn(|| burst(there, calls));
                    burst(here, calls).max(other.join().unwrap())
                })
            });
        });
    }
    measure::<Sortie>(c, "sortie");
    measure::<SingleflightAsync>(c, "singleflight-async");
    measure::<QuickCache>(c, "quick_cache");
}

/// A thousand tasks that all wait for the same thing, and the clock from its release to the last.
struct Herd {
    here: AtomicUsize,
    left: AtomicUsize,
    last: Notify,
}

impl Herd {
    fn gather() -> Arc<Self> {
        let (here, left) = (AtomicUsize::new(0), AtomicUsize::new(HERD));
        Arc::new(Self { here, left, last: Notify::new() })
    }

    fn done(&self) {
        if self.left.fetch_sub(1, SeqCst) == 1 {
            self.last.notify_one();
        }
    }

    async fn time(&self, release: impl FnOnce()) -> Duration {
        while self.here.load(SeqCst) < HERD {
            sleep(Duration::from_millis(1)).await;
        }
        // A caller is counted just before its call: the last ones need a moment to join.
        sleep(Duration::from_millis(3)).await;
        let begun = Instant::now();
        release();
        self.last.notified().await;
        begun.elapsed()
    }
}

async fn herd_of<S: Flies>() -> Duration {
    let (herd, flies) = (Herd::gather(), Arc::new(S::new()));
    let (release, gate) = oneshot::channel::<()>();
    let gate = Arc::new(Mutex::new(Some(gate)));
    for _ in 0..HERD {
        let (herd, flies, gate) = (Arc::clone(&herd), Arc::clone(&flies), Arc::clone(&gate));
        Handle::current().spawn(async move {
            herd.here.fetch_add(1, SeqCst);
            let load = move || {
                let gate = gate.lock().unwrap().take();
                async move {
                    // A caller that a busy machine kept from joining in time finds the gate open.
                    if let Some(gate) = gate {
                        gate.await.unwrap();
                    }
                    7
                }
            };
            assert_eq!(flies.call("the hot key", load).await, 7);
            herd.done();
        });
    }
    herd.time(|| release.send(()).unwrap()).await
}

async fn herd_of_one_notify() -> Duration {
    let (herd, bell) = (Herd::gather(), Arc::new(Notify::new()));
    for _ in 0..HERD {
        let (herd, bell) = (Arc::clone(&herd), Arc::clone(&bell));
        Handle::current().spawn(async move {
            herd.here.fetch_add(1, SeqCst);
            bell.notified().await;
            herd.done();
        });
    }
    herd.time(|| bell.notify_waiters()).await
}

fn herd(c: &mut Criterion) {
    fn measure<R>(c: &mut Criterion, name: &str, round: impl Fn() -> R)
    where
        R: Future<Output = Duration> + Send + 'static,
    {
        let runtime: Runtime =
            Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut group = c.benchmark_group("singleflight/herd");
        group.throughput(Throughput::Elements(HERD as u64)).sample_size(30);
        group.measurement_time(Duration::from_secs(8));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                // In a task, so that the release happens on a worker as it does in a server.
                (0..rounds).map(|_| runtime.block_on(runtime.spawn(round())).unwrap()).sum()
            });
        });
    }
    measure(c, "floor: one notify", herd_of_one_notify);
    measure(c, "sortie", herd_of::<Sortie>);
    measure(c, "singleflight-async", herd_of::<SingleflightAsync>);
    measure(c, "quick_cache", herd_of::<QuickCache>);
    measure(c, "moka", herd_of::<Moka>);
}

criterion_group!(benches, uncontended, two_threads, skewed, herd);
criterion_main!(benches);
