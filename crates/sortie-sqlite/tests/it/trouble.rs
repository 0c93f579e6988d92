//! Laws of trouble: how they are written, whom they strike, what they do.

use std::time::Duration;

use proptest::prelude::*;
use sortie_sqlite::{Address, Embedded, EmbeddedConfig, Error, Latency, Law, Replica, Trouble};
use tokio::time::{Instant, timeout};

use crate::small;

fn latency(text: &str) -> Latency {
    text.parse().unwrap()
}

async fn took(replica: &Replica) -> Duration {
    let began = Instant::now();
    replica.query("SELECT 1".into(), [].into()).await.unwrap();
    began.elapsed()
}

#[test]
fn laws_are_read_as_the_manual_writes_them() {
    let check = |text: &str, shard, replica, law| {
        let latency = latency(text);
        let mut address = Address::default();
        (address.shard, address.replica) = (shard, replica);
        assert_eq!((latency.address, latency.law), (address, law), "{text}");
    };
    let ms = Duration::from_millis;
    check("fixed:5ms", None, None, Law::Fixed(ms(5)));
    check("1=fixed:2s", Some(1), None, Law::Fixed(ms(2_000)));
    check(
        "0.1=lognormal:50ms:0.1",
        Some(0),
        Some(1),
        Law::LogNormal { median: ms(50), sigma: 0.1 },
    );
    check("stall:1%:200ms", None, None, Law::Stall { share: 0.01, pause: ms(200) });
}

#[test]
fn what_can_not_be_read_is_explained() {
    let check = |text: &str, what: &str| {
        let error = text.parse::<Latency>().unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
    };
    check("slow", "there is no such law");
    check("slow", "`stall:1%:200ms`");
    check("fixed", "too few or too many");
    check("fixed:5", "`5` is no duration");
    check("lognormal:50ms:-1", "`-1` is no sigma");
    check("lognormal:50ms:NaN", "no sigma");
    check("stall:1:200ms", "needs a percent sign");
    check("stall:101%:200ms", "no percentage from 0 to 100");
    check("0.x=fixed:5ms", "`0.x` names no replica");
    check("=fixed:5ms", "names no replica");
    check("+1=fixed:5ms", "names no replica");
    check("fixed:5ms=1", "names no replica");
    assert!("1.".parse::<Address>().is_err());
}

#[test]
fn trouble_for_nobody_is_refused() {
    let mut config = EmbeddedConfig::default();
    config.trouble = latency("0.3=fixed:5ms").into();
    let error = Embedded::create(&config).unwrap_err().to_string();
    assert!(error.contains("`0.3` is nobody here"), "{error}");
    config.trouble = Trouble::default();
    config.trouble.fail.push("2".parse().unwrap());
    assert!(matches!(Embedded::create(&config), Err(Error::Trouble(_))));
}

proptest! {
    #[test]
    fn any_text_is_a_law_or_an_error(text in "[0-9a-z.:%=]{0,20}|\\PC{0,20}") {
        if let Ok(latency) = text.parse::<Latency>() {
            prop_assert!(["fixed", "normal", "stall"].iter().any(|law| text.contains(law)));
            prop_assert!(latency.to_string().parse::<Latency>().is_ok());
        }
    }

    #[test]
    fn a_law_survives_being_written_and_read(
        at in prop::option::of((0_usize..64, prop::option::of(0_usize..16))),
        ms in 0_u64..10_000_000,
        sigma in 0_u8..100,
        which in 0..3,
    ) {
        let prefix = match at {
            None => String::new(),
            Some((shard, None)) => format!("{shard}="),
            Some((shard, Some(replica))) => format!("{shard}.{replica}="),
        };
        let law = match which {
            0 => format!("fixed:{ms}ms"),
            1 => format!("lognormal:{ms}ms:{}", f64::from(sigma) / 10.0),
            _ => format!("stall:{sigma}%:{ms}ms"),
        };
        let first = latency(&format!("{prefix}{law}"));
        prop_assert_eq!(first, latency(&first.to_string()));
    }
}

#[tokio::test]
async fn delays_strike_whom_they_name_and_add_up() {
    let mut trouble = Trouble::default();
    trouble.latency = vec![latency("0=fixed:40ms"), latency("0.1=fixed:40ms")];
    let embedded = small(trouble);
    let ms = Duration::from_millis;
    assert!((ms(40)..ms(79)).contains(&took(&embedded.shards()[0][0]).await));
    assert!(took(&embedded.shards()[0][1]).await >= ms(80));
    assert!(took(&embedded.shards()[1][1]).await < ms(39));
}

#[tokio::test]
async fn a_failing_replica_says_so_at_once_in_spite_of_its_delay() {
    let mut trouble = Trouble::from(latency("fixed:1h"));
    trouble.fail.push("1".parse().unwrap());
    let embedded = small(trouble);
    for (at, replica) in embedded.shards()[1].iter().enumerate() {
        let attempt = replica.query("SELECT 1".into(), [].into());
        let error = timeout(Duration::from_secs(5), attempt).await.unwrap().unwrap_err();
        assert!(error.to_string().starts_with(&format!("replica {at} of shard 1")), "{error}");
        assert_eq!((replica.stats().statements, replica.stats().in_flight), (1, 0));
    }
}

#[tokio::test]
async fn a_stall_strikes_its_share_and_the_same_attempts_every_time() {
    let stalled = async |seed| {
        let mut trouble = Trouble::from(latency("stall:30%:25ms"));
        trouble.seed = seed;
        let embedded = small(trouble);
        let mut stalled = Vec::new();
        for _ in 0..60 {
            stalled.push(took(&embedded.shards()[0][0]).await >= Duration::from_millis(25));
        }
        stalled
    };
    let first = stalled(1).await;
    let share = first.iter().filter(|stalled| **stalled).count();
    assert!((6..=30).contains(&share), "{share} of 60");
    assert_eq!(first, stalled(1).await);
    assert_ne!(first, stalled(2).await);
}
