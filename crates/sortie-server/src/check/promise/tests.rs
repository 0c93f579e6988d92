use super::*;

fn list(text: &str) -> (Method, usize, Vec<String>) {
    let StandbyNames { method, needed, names } = StandbyNames::parse(text).unwrap();
    (method, needed, names)
}

fn judge(commit: &str, names: &str, standbys: &[&str]) -> Vec<Freshness> {
    let standbys: Vec<_> = standbys.iter().map(|name| Some((*name).to_owned())).collect();
    promise(commit, &StandbyNames::parse(names).unwrap(), &standbys)
}

fn behind(cause: Cause) -> Freshness {
    Freshness::MayBeBehind(cause)
}

#[test]
fn lists_are_read_as_postgresql_reads_them() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (text, method, needed, listed) in [
        ("", Method::First, 0, &[][..]),
        ("  ", Method::First, 0, &[]),
        ("a", Method::First, 1, &["a"]),
        ("a, B,\"c d\"", Method::First, 1, &["a", "B", "c d"]),
        ("*", Method::First, 1, &["*"]),
        ("2 (a, b)", Method::First, 2, &["a", "b"]),
        ("FIRST 2 (a, b)", Method::First, 2, &["a", "b"]),
        ("first 1(a)", Method::First, 1, &["a"]),
        ("Any 2 ( s_1 , \"s\"\"2\" , s$3 )", Method::Any, 2, &["s_1", "s\"2", "s$3"]),
        ("ANY 1 (*)", Method::Any, 1, &["*"]),
        ("\"first\", \"any\"", Method::First, 1, &["first", "any"]),
        ("1, 2", Method::First, 1, &["1", "2"]),
        ("größe", Method::First, 1, &["größe"]),
    ] {
        assert_eq!(list(text), (method, needed, names(listed)), "{text}");
    }
    for text in ["FIRST", "ANY 2", "FIRST (a)", "a b", "a,", ",", "2 (a", "\"a", "a-b", "2 ()"] {
        assert!(StandbyNames::parse(text).is_err(), "{text}");
    }
}

#[test]
fn only_replay_by_everybody_is_current() {
    for names in ["ANY 2 (a, b)", "FIRST 2 (a, b)", "2 (b, A)", "ANY 3 (a, b, c)"] {
        let all = judge("remote_apply", names, &["a", "b"]);
        assert_eq!(all, [Freshness::Current, Freshness::Current], "{names}");
    }
}

#[test]
fn everything_else_names_its_cause() {
    let all = |cause: Cause| vec![behind(cause.clone()), behind(cause)];
    let judge = |commit, names| judge(commit, names, &["a", "b"]);
    assert_eq!(judge("remote_apply", ""), all(Cause::Asynchronous));
    assert_eq!(judge("off", "ANY 2 (a, b)"), all(Cause::Asynchronous));
    assert_eq!(judge("local", "ANY 2 (a, b)"), all(Cause::Asynchronous));
    for level in ["on", "remote_write"] {
        assert_eq!(judge(level, "ANY 2 (a, b)"), all(Cause::Level(level.into())));
    }
    assert_eq!(judge("remote_apply", "ANY 2 (*)"), all(Cause::Wildcard));
    let any = Cause::NotAllNeeded { method: Method::Any, needed: 1, listed: 2 };
    assert_eq!(judge("remote_apply", "ANY 1 (a, b)"), all(any));
    assert_eq!(
        judge("remote_apply", "FIRST 1 (a, b)"),
        [
            behind(Cause::WhenCutOff { needed: 1, listed: 2 }),
            behind(Cause::NotAllNeeded { method: Method::First, needed: 1, listed: 2 }),
        ],
    );
    assert_eq!(
        judge("remote_apply", "ANY 1 (a)"),
        [Freshness::Current, behind(Cause::NotListed("b".into()))],
    );
}

#[test]
fn a_name_must_be_known_and_be_one_standbys_own() {
    let shared = judge("remote_apply", "ANY 2 (walreceiver, b)", &["walreceiver", "WALreceiver"]);
    assert_eq!(shared[0], behind(Cause::SharedName("walreceiver".into())));
    let list = StandbyNames::parse("ANY 2 (a, b)").unwrap();
    let judged = promise("remote_apply", &list, &[Some("a".into()), None]);
    assert_eq!(judged, [Freshness::Current, behind(Cause::NameUnknown)]);
}

#[test]
fn the_remedy_makes_everybody_current() {
    let standbys = [Some("s1".to_owned()), Some("it's \"2\"".to_owned())];
    let remedy = remedy(&standbys).unwrap();
    let literal = remedy.split_once("names = '").unwrap().1.split_once("'; ALTER").unwrap().0;
    let list = StandbyNames::parse(&literal.replace("''", "'")).unwrap();
    assert_eq!(promise("remote_apply", &list, &standbys), vec![Freshness::Current; 2]);
    assert_eq!(super::remedy(&[None]), None);
    assert_eq!(super::remedy(&[]), None);
}
