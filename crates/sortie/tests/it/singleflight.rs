//! Behaviour of `SingleFlight`, on a paused clock.

use sortie::SingleFlight;

#[tokio::test(start_paused = true)]
async fn a_call_returns_what_its_load_returns() {
    let flights = SingleFlight::<u8, u8, ()>::new();
    assert_eq!(flights.run(1, || async { Ok(7) }).await.unwrap(), 7);
}
