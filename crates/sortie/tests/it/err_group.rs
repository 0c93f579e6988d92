//! Error group: the first error cancels the rest, limits, closing, and nothing left behind.

use std::error::Error as _;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;
use sortie::{ErrGroup, GroupError, Stop, Task, TaskFailure};
use tokio::time::{Instant, sleep};

fn down() -> io::Error {
    io::Error::other("down")
}

/// Answers after `ms`, or fails then when it is negative; `alive` shows that it is gone.
async fn task(ms: i64, alive: Arc<()>) -> Result<(), io::Error> {
    sleep(Duration::from_millis(ms.unsigned_abs())).await;
    drop(alive);
    if ms < 0 { Err(down()) } else { Ok(()) }
}

/// Spawns `scripts` under `limit` and checks the error's text, the time, and that nothing is left.
async fn check(scripts: &[i64], limit: usize, expected: Result<usize, &str>, took_ms: u64) {
    let (alive, began) = (Arc::new(()), Instant::now());
    let ended = ErrGroup::new()
        .limit(limit)
        .scope(|group| {
            let alive = &alive;
            async move {
                for &script in scripts {
                    group.spawn(task(script, Arc::clone(alive))).await?;
                }
                Ok(scripts.len())
            }
        })
        .await;
    assert_eq!(Arc::strong_count(&alive), 1, "a task outlived its scope");
    assert_eq!(began.elapsed(), Duration::from_millis(took_ms));
    assert_eq!(ended.map_err(|e| e.to_string()), expected.map_err(str::to_owned));
}

#[tokio::test(start_paused = true)]
async fn a_scope_returns_when_all_its_tasks_have_ended() {
    check(&[], 1, Ok(0), 0).await;
    check(&[5, 30, 0], 9, Ok(3), 30).await;
    check(&[10, 10, 10, 10], 2, Ok(4), 20).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_error_cancels_the_rest() {
    check(&[9_000, 1, -5, 9_000], 9, Err("task 2 failed; cancelled: 2"), 5).await;
    check(&[9_000, -5, 9_000, -5], 9, Err("task 1 failed; 1 more; cancelled: 2"), 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_waits_for_a_place_when_the_group_fails_does_not_hang() {
    // Ten places and the tenth task calls the whole off: the eleventh spawn must not wait for a
    // place that nobody will ever give back.
    let mut scripts = vec![1 << 40; 9];
    scripts.push(-10);
    scripts.extend([0; 5]);
    check(&scripts, 10, Err("task 9 failed; cancelled: 9"), 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_spawn_learns_that_the_group_is_closed() {
    let seen = AtomicUsize::new(0);
    let error = ErrGroup::new()
        .limit(1)
        .scope(|group| {
            let seen = &seen;
            async move {
                group.spawn(task(-3, Arc::default())).await?;
                let stop = group.spawn(task(0, Arc::default())).await.unwrap_err();
                assert!(stop.is_closed());
                seen.fetch_add(1, Relaxed);
                Err::<(), _>(stop)
            }
        })
        .await
        .unwrap_err();
    assert_eq!(seen.into_inner(), 1);
    assert_eq!(error.primary().task, Task::Spawned(0));
    assert_eq!(error.others_total(), 0, "the echo of the failure is no failure");
    assert_eq!(error.source().unwrap().to_string(), "down");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_waits_for_something_else_is_dropped_with_its_tasks() {
    let began = Instant::now();
    let ended: Result<(), GroupError<io::Error>> = ErrGroup::new()
        .scope(|group| async move {
            group.spawn(task(-3, Arc::default())).await?;
            sleep(Duration::from_secs(3_600)).await;
            Ok(())
        })
        .await;
    assert_eq!(ended.unwrap_err().primary().task, Task::Spawned(0));
    assert_eq!(began.elapsed(), Duration::from_millis(3));
}

#[tokio::test(start_paused = true)]
async fn the_bodys_own_error_cancels_its_tasks() {
    let alive = Arc::new(());
    let ended: Result<(), _> = ErrGroup::new()
        .scope(|group| {
            let alive = Arc::clone(&alive);
            async move {
                group.spawn(task(9_000, alive)).await?;
                sleep(Duration::from_millis(1)).await;
                Err(down())?;
                Ok(())
            }
        })
        .await;
    let error = ended.unwrap_err();
    assert_eq!(error.to_string(), "the group's body failed; cancelled: 1");
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn in_a_tie_the_body_comes_after_its_tasks() {
    let ended: Result<(), _> = ErrGroup::new()
        .scope(|group| async move {
            group.spawn(task(-5, Arc::default())).await?;
            sleep(Duration::from_millis(5)).await;
            Err(down())?;
            Ok(())
        })
        .await;
    let error = ended.unwrap_err();
    assert_eq!(error.primary().task, Task::Spawned(0));
    assert_eq!(error.others()[0].task, Task::Body);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_everything_that_is_late() {
    let began = Instant::now();
    let ended: Result<(), _> = ErrGroup::new()
        .deadline(began + Duration::from_millis(20))
        .scope(|group| async move {
            group.spawn(task(10, Arc::default())).await?;
            group.spawn(task(30, Arc::default())).await?;
            group.spawn(task(40, Arc::default())).await?;
            Ok(())
        })
        .await;
    let error = ended.unwrap_err();
    assert_eq!(error.to_string(), "task 1 timed out; 1 more");
    assert_eq!(began.elapsed(), Duration::from_millis(20));

    let late = ErrGroup::new().deadline(began).scope(|group| async move {
        group.spawn(task(0, Arc::default())).await?;
        Ok(())
    });
    let error = late.await.unwrap_err();
    assert!(matches!(error.primary().failure, TaskFailure::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_scope_drops_everything_before_the_drop_returns() {
    let (alive, queued) = (Arc::new(()), Arc::new(()));
    let mut scope = Box::pin(ErrGroup::new().limit(1).scope(|group| {
        let (alive, queued) = (Arc::clone(&alive), Arc::clone(&queued));
        async move {
            group.spawn(task(50, alive)).await?;
            group.spawn(task(50, queued)).await?;
            Ok(())
        }
    }));
    assert!(scope.as_mut().now_or_never().is_none());
    assert_eq!((Arc::strong_count(&alive), Arc::strong_count(&queued)), (2, 2));
    drop(scope);
    assert_eq!((Arc::strong_count(&alive), Arc::strong_count(&queued)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_left_its_scope_spawns_nothing() {
    let kept = ErrGroup::new()
        .scope(|group| async move {
            group.spawn(task(1, Arc::default())).await?;
            Ok(group)
        })
        .await
        .unwrap();
    let alive = Arc::new(());
    assert!(kept.spawn(task(0, Arc::clone(&alive))).await.unwrap_err().is_closed());
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handle_on_another_task_wakes_the_group() {
    let ran = Arc::new(AtomicUsize::new(0));
    let scope = ErrGroup::new().scope(|group| {
        let ran = Arc::clone(&ran);
        async move {
            let (done, when_done) = tokio::sync::oneshot::channel();
            let elsewhere = Box::pin(async move {
                sleep(Duration::from_millis(1)).await;
                let task = async move {
                    ran.fetch_add(1, Relaxed);
                    done.send(()).unwrap();
                    Ok::<_, io::Error>(())
                };
                group.spawn(task).await.unwrap();
            });
            let mut owner = tokio::task::JoinSet::new();
            owner.spawn(elsewhere);
            when_done.await.unwrap();
            Ok(())
        }
    });
    scope.await.unwrap();
    assert_eq!(ran.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_passed_on_after_the_siblings_are_gone() {
    let alive = Arc::new(());
    let scope = ErrGroup::new().scope(|group| {
        let alive = Arc::clone(&alive);
        async move {
            group.spawn(task(9_000, alive)).await?;
            group.spawn(async { panic!("a task's own") }).await?;
            Ok(())
        }
    });
    let payload = AssertUnwindSafe(scope).catch_unwind().await.unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"a task's own"));
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_may_open_a_scope_of_its_own_under_any_limit() {
    let sum = AtomicU64::new(0);
    ErrGroup::new()
        .limit(1)
        .scope(|outer| {
            let sum = &sum;
            async move {
                for _ in 0..3 {
                    outer.spawn(tree(sum)).await?;
                }
                Ok(())
            }
        })
        .await
        .unwrap();
    assert_eq!(sum.into_inner(), 9);
}

async fn tree(sum: &AtomicU64) -> Result<(), io::Error> {
    let inner = ErrGroup::new().limit(1).scope(|group| async move {
        for _ in 0..3 {
            group
                .spawn(async move {
                    sleep(Duration::from_millis(1)).await;
                    sum.fetch_add(1, Relaxed);
                    Ok::<_, io::Error>(())
                })
                .await?;
        }
        Ok(())
    });
    inner.await.map_err(io::Error::other)
}

/// One task's life as the model sees it: `(started, ended)` in milliseconds.
fn model(scripts: &[i64], limit: usize) -> Result<u64, usize> {
    let mut free = vec![0_u64; limit.min(scripts.len().max(1))];
    let mut failed: Option<(u64, usize)> = None;
    let mut last = 0;
    for (ordinal, script) in scripts.iter().enumerate() {
        let place = free.iter_mut().min().expect("there is at least one place");
        let ends = *place + script.unsigned_abs();
        *place = ends;
        last = last.max(ends);
        if *script < 0 {
            failed = Some(failed.map_or((ends, ordinal), |first| first.min((ends, ordinal))));
        }
    }
    failed.map_or(Ok(last), |(_, ordinal)| Err(ordinal))
}

proptest::proptest! {
    #[test]
    fn any_group_agrees_with_its_model(
        scripts in proptest::collection::vec((1_i64..40, proptest::bool::weighted(0.1)), 0..40),
        limit in 1_usize..12,
    ) {
        let scripts: Vec<i64> =
            scripts.into_iter().map(|(ms, fails)| if fails { -ms } else { ms }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(agrees(&scripts, limit));
    }
}

async fn agrees(scripts: &[i64], limit: usize) {
    let (alive, began) = (Arc::new(()), Instant::now());
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ended: Result<(), _> = ErrGroup::new()
        .limit(limit)
        .scope(|group| {
            let (alive, running, most) = (&alive, &running, &most);
            async move {
                for &script in scripts {
                    let work = task(script, Arc::clone(alive));
                    let counted = async move {
                        let now = running.fetch_add(1, Relaxed) + 1;
                        most.fetch_max(now, Relaxed);
                        let ended = work.await;
                        running.fetch_sub(1, Relaxed);
                        ended
                    };
                    group.spawn(counted).await?;
                }
                Ok(())
            }
        })
        .await;
    assert_eq!(Arc::strong_count(&alive), 1);
    assert!(most.into_inner() <= limit);
    let seen = match ended {
        Ok(()) => Ok(u64::try_from(began.elapsed().as_millis()).expect("a short test")),
        Err(error) => Err(error.primary().task),
    };
    assert_eq!(seen, model(scripts, limit).map_err(Task::Spawned));
}

#[test]
fn a_body_error_of_any_kind_becomes_a_stop() {
    let stop: Stop<io::Error> = down().into();
    assert!(!stop.is_closed());
}
