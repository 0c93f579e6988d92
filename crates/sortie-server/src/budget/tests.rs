use tokio::time::advance;

use super::*;
use crate::relay::roster::{Ends, Listed, Person, Roster};

const MIB: usize = 1 << 20;

fn budget(mebibytes: usize) -> Budget {
    Budget::new(NonZeroUsize::new(mebibytes * MIB).unwrap())
}

fn session(roster: &Arc<Roster>, id: i32) -> Listed {
    let (user, database, ends) = ("u".into(), "d".into(), Ends::default());
    roster.enter(Person { id, user, database, ends, is_encrypted: false }, "")
}

fn evicted(sessions: &[Listed]) -> Vec<bool> {
    sessions.iter().map(|session| session.entry.is_evicted()).collect()
}

/// Looks as often as the keeper does within that time.
async fn kept(budget: &Budget, time: Duration) {
    let late = tokio::time::timeout(time, budget.keep()).await;
    assert!(late.is_err());
}

#[test]
fn rows_count_once_until_nobody_has_a_part_of_them() {
    let budget = budget(4);
    let small = budget.counted(Bytes::from(vec![0; SMALL_MAX]));
    assert_eq!((small.len(), budget.read().used), (SMALL_MAX, 0));
    let all = budget.counted(Bytes::from(vec![7; MIB]));
    let (other, part) = (all.clone(), all.slice(2..3));
    assert_eq!(budget.read().used, MIB);
    drop((all, other));
    assert_eq!((budget.read().used, &part[..]), (MIB, &[7][..]));
    drop(part);
    assert_eq!(budget.read(), BudgetStats { used_max: 4 * MIB, ..BudgetStats::default() });
}

#[test]
fn while_it_is_spent_only_small_answers_are_held() {
    let budget = budget(4);
    assert_eq!(budget.whole_max(MIB), MIB);
    let rows = budget.counted(Bytes::from(vec![0; 4 * MIB]));
    assert_eq!((budget.whole_max(MIB), budget.whole_max(100)), (SMALL_MAX, 100));
    budget.change(NonZeroUsize::new(5 * MIB).unwrap());
    assert_eq!(budget.whole_max(MIB), MIB);
    drop(rows);
}

#[tokio::test(start_paused = true)]
async fn who_has_held_the_most_for_the_longest_is_ended_first() {
    let (budget, roster) = (budget(8), Arc::new(Roster::new()));
    let sessions: Vec<_> = (0..5).map(|id| session(&roster, id)).collect();
    let mut holdings: Vec<_> =
        sessions.iter().map(|it| budget.holding(Some(Arc::clone(&it.entry)))).collect();
    // Much for long, little for long, much for long at its servers, much for a while, much now.
    holdings[0].set(2 * MIB, 0, true);
    holdings[1].set(MIB / 2, 0, true);
    holdings[2].set(2 * MIB, 0, false);
    advance(Duration::from_secs(10)).await;
    holdings[3].set(MIB, 0, true);
    kept(&budget, Duration::from_secs(5)).await;
    assert_eq!(evicted(&sessions), [false; 5], "it is not pressed");
    holdings[4].set(MIB, 0, true);
    kept(&budget, LOOK_PAUSE / 2).await;
    assert_eq!(evicted(&sessions), [true, false, false, false, false]);
    // It takes its time to go, and nobody else pays for that at once.
    holdings[0].set(0, 0, false);
    kept(&budget, Duration::from_secs(5)).await;
    assert_eq!(evicted(&sessions), [true, false, false, false, false]);
    holdings[4].set(6 * MIB, 0, true);
    kept(&budget, LOOK_PAUSE / 2).await;
    assert_eq!(evicted(&sessions), [true, false, false, false, true]);
    assert_eq!((budget.read().ended, budget.read().holders), (2, 4));
    drop(holdings);
    assert_eq!((budget.read().used, budget.read().holders), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_ended_for_a_short_while() {
    let roster = Arc::new(Roster::new());
    let (budget, spent) = (budget(8), budget(8));
    let (one, two) = (session(&roster, 1), session(&roster, 2));
    let mut holding = budget.holding(Some(Arc::clone(&one.entry)));
    holding.set(7 * MIB, 0, true);
    kept(&budget, HELD_MIN / 2).await;
    assert!(!one.entry.is_evicted());
    // What is written of a buffer is still in it.
    holding.set(MIB, 0, true);
    assert_eq!(budget.read().used, 7 * MIB);
    kept(&budget, HELD_MIN).await;
    assert!(one.entry.is_evicted());
    // Where all is used that is shorter.
    let mut other = spent.holding(Some(Arc::clone(&two.entry)));
    other.set(9 * MIB, 0, true);
    kept(&spent, SPENT_HELD_MIN / 2).await;
    assert!(!two.entry.is_evicted());
    kept(&spent, SPENT_HELD_MIN).await;
    assert!(two.entry.is_evicted());
    tokio::time::timeout(Duration::ZERO, holding.ended()).await.expect("it was told");
}
