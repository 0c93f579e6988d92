use super::*;

/// The delays of a law over an even grid of draws, smallest first.
fn delays(law: &str) -> Vec<Duration> {
    let law: Law = law.parse().expect("a law");
    let even = |n: u32| (f64::from(n) + 0.5) / 100.0;
    let draws = (0..100).flat_map(|a| (0..100).map(move |b| [even(a), even(b)]));
    let mut delays: Vec<_> = draws.map(|draw| law.delay(draw)).collect();
    delays.sort_unstable();
    delays
}

#[test]
fn lognormal_delays_have_their_median_and_their_spread() {
    let delays = delays("lognormal:50ms:0.5");
    let at = |quantile: usize| delays[quantile].as_secs_f64() * 1_000.0;
    assert!((49.0..51.0).contains(&at(5_000)), "median {}", at(5_000));
    // One sigma to either side: 15.87 % and 84.13 % of the normal distribution.
    assert!((0.96..1.04).contains(&(at(8_413) / (50.0 * 0.5_f64.exp()))), "{}", at(8_413));
    assert!((0.96..1.04).contains(&(at(1_587) / (50.0 / 0.5_f64.exp()))), "{}", at(1_587));
}

#[test]
fn a_stall_strikes_its_share() {
    let stalled = delays("stall:7%:1s").iter().filter(|delay| !delay.is_zero()).count();
    assert_eq!(stalled, 700);
    assert!(delays("stall:0%:1s").iter().all(Duration::is_zero));
    assert!(delays("stall:100%:1s").iter().all(|delay| delay.as_secs() == 1));
}

#[test]
fn no_draw_makes_a_delay_that_is_no_number() {
    let law: Law = "lognormal:1h:10".parse().expect("a law");
    for draw in [[0.0, 0.0], [1.0 - f64::EPSILON / 2.0, 0.0], [1.0 - f64::EPSILON / 2.0, 0.5]] {
        let _delay = law.delay(draw); // Too long is for ever; it must not panic.
    }
    assert_eq!(law.delay([1.0 - f64::EPSILON / 2.0, 0.0]), Duration::MAX);
}
