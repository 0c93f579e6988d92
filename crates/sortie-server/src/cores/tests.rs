use std::collections::HashMap;
use std::pin::pin;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

/// As many cores as asked for, whatever the machine has.
fn cores(count: usize) -> Cores {
    Cores((0..count).map(|index| Core::start(index).unwrap()).collect())
}

/// How many sessions each core has, smallest first.
fn taken(cores: &Cores) -> Vec<usize> {
    let mut taken: Vec<usize> = cores.0.iter().map(|core| core.desk.taken.load(Relaxed)).collect();
    taken.sort_unstable();
    taken
}

#[test]
fn sessions_share_a_core_and_many_at_once_are_dealt_out_evenly() {
    let cores = cores(3);
    let places: Vec<Place> = (0..PACKED_MAX).map(|_| cores.place().0).collect();
    assert_eq!(taken(&cores), [0, 0, PACKED_MAX]);
    let more: Vec<Place> = (0..3 * PACKED_MAX).map(|_| cores.place().0).collect();
    let each = PACKED_MAX + PACKED_MAX / 3;
    assert_eq!(taken(&cores), [each, each, each + 1]);
    drop(places);
    drop(more);
    assert_eq!(taken(&cores), [0, 0, 0]);
}

#[test]
fn a_busy_core_is_given_no_more_sessions_while_another_has_none() {
    let cores = cores(2);
    let _first = cores.place();
    cores.0[0].desk.load.store(BUSY_MIN + 1, Relaxed);
    let _second = cores.place();
    assert_eq!(taken(&cores), [1, 1]);
    let second = Duration::from_secs(1);
    assert_eq!(
        (share(second * 3 / 4, second), share(second, Duration::ZERO)),
        (750, 1_000_000_000)
    );
}

#[test]
fn a_busy_core_gives_a_calm_one_what_makes_both_equal() {
    let cores = cores(3);
    let level = |loads: [u32; 3]| {
        for (core, load) in cores.0.iter().zip(loads) {
            core.desk.load.store(load, Relaxed);
            core.desk.active.store(100, Relaxed);
        }
        cores.level();
        assert!(cores.0.iter().all(|core| core.desk.active.load(Relaxed) == 0));
        cores.0.iter().map(|core| core.desk.leaving.load(Relaxed)).collect::<Vec<_>>()
    };
    assert_eq!(level([900, 0, 0]), [50, 0, 0]);
    let (place, _) = cores.calmest();
    assert!(Arc::ptr_eq(&place.0, &cores.0[1].desk));
    assert_eq!(level([900, 200, 500]), [38, 0, 0]);
    // One at a time.
    assert_eq!(level([900, 900, 100]), [44, 0, 0]);
    // Nobody is calm, or nobody busy: nobody moves, and who was to does not any more.
    assert_eq!(level([1_000, 900, CALM_MAX]), [0, 0, 0]);
    assert_eq!(level([BUSY_MIN, 0, 0]), [0, 0, 0]);
    // A session that keeps a core busy by itself stays.
    assert_eq!(leaving(1, 1_000, 0), 0);
    assert_eq!(leaving(0, 0, 0), 0);
}

/// A thread that is only awake, as it would be among others that want the same processor, does
/// not compute.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the thread is to stand still, and has no other task"
)]
fn what_a_core_computes_is_measured_and_not_how_long_it_is_awake() {
    let cores = cores(1);
    let core = &cores.0[0];
    let runtime = Builder::new_current_thread().build().unwrap();
    let on_core = |work: fn()| {
        let before = core.computed();
        let mut tasks = JoinSet::new();
        tasks.spawn_on(async move { work() }, &core.runtime);
        runtime.block_on(tasks.join_all());
        core.computed().checked_sub(before).unwrap()
    };
    assert!(core.schedule.is_some(), "this system does not say what a thread computed");
    let awake = on_core(|| thread::sleep(Duration::from_millis(200)));
    assert!(awake < Duration::from_millis(100), "{awake:?}");
    let mut computed = Duration::ZERO;
    let began = Instant::now();
    while computed < Duration::from_millis(20) {
        assert!(began.elapsed() < Duration::from_secs(20), "{computed:?}");
        computed += on_core(|| {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(20) {}
        });
    }
}

/// What was measured is seen by whoever places a session, and forgotten when it is over.
#[tokio::test(start_paused = true)]
async fn a_core_is_busy_by_what_it_has_done_of_late() {
    let cores = cores(2);
    cores.0[0].desk.load.store(1_000, Relaxed);
    let mut measured = pin!(cores.keep_measured());
    timeout(BUSY_WINDOW / 2, &mut measured).await.unwrap_err();
    assert!(cores.0[0].desk.is_busy());
    timeout(BUSY_WINDOW, &mut measured).await.unwrap_err();
    assert!(!cores.0[0].desk.is_busy());
}

#[tokio::test]
async fn a_session_stays_on_the_thread_of_its_core() {
    let cores = cores(2);
    let mut sessions = JoinSet::new();
    for _ in 0..8 {
        let (place, core) = cores.place();
        let session = async move {
            let mut seen = HashMap::new();
            for _ in 0..50 {
                tokio::task::yield_now().await;
                *seen.entry(thread::current().id()).or_insert(0) += 1;
            }
            (seen, place)
        };
        sessions.spawn_on(session, core);
    }
    let ended = sessions.join_all().await;
    let mut threads: HashMap<_, usize> = HashMap::new();
    for (seen, _place) in &ended {
        assert_eq!(seen.len(), 1, "{seen:?}");
        *threads.entry(*seen.keys().next().unwrap()).or_default() += 1;
    }
    assert_eq!(threads.into_values().collect::<Vec<_>>(), [8]);
}

#[test]
fn nothing_outlives_the_cores() {
    struct Gone(Arc<AtomicUsize>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    let (cores, gone) = (cores(2), Arc::new(AtomicUsize::new(0)));
    let mut sessions = JoinSet::new();
    for _ in 0..4 {
        let (guard, (place, core)) = (Gone(Arc::clone(&gone)), cores.place());
        let session = async move {
            std::future::pending::<()>().await;
            drop((guard, place));
        };
        sessions.spawn_on(session, core);
    }
    sessions.detach_all();
    drop(cores);
    assert_eq!(gone.load(Relaxed), 4);
}

#[tokio::test]
async fn all_answer_when_none_is_stuck_and_none_has_ended() {
    let mut cores = cores(2);
    assert!(cores.all_answer().await);
    let (release, stuck) = mpsc::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn_on(async move { stuck.recv() }, &cores.0[1].runtime);
    assert!(timeout(Duration::from_millis(200), cores.all_answer()).await.is_err());
    drop(release);
    assert!(cores.all_answer().await);
    cores.0[0].stop = None;
    cores.0[0].thread.take().unwrap().join().unwrap();
    assert!(!cores.all_answer().await);
}
