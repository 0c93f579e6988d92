use super::*;

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(Canonical::new(text).unwrap().text, expected, "{text}");
}

#[test]
fn ordinary_comments_are_emptied_inside_and_go_outside() {
    check("select 1", "select 1");
    check(" /* a */ select /* b /* c */ */ 1 -- d\n ; ", "select /**/ 1");
    check("select 1 -- d\n, 2", "select 1 --\n, 2");
    check("select/**/1", "select/**/1");
    check("select 1 /*traceparent='00-ab'*/;;", "select 1");
    check("-- nothing", "");
}

#[test]
fn what_only_looks_like_a_comment_stays() {
    check("select '/* x */', $$-- y$$, \"/* z */\"", "select '/* x */', $$-- y$$, \"/* z */\"");
    check("select $t$ /* $t$ || E'\\'/*a*/'", "select $t$ /* $t$ || E'\\'/*a*/'");
    check("select 'a' -- one\n 'b'", "select 'a' -- one\n 'b'");
}

#[test]
fn hints_stay_where_they_are() {
    check("/*+ SeqScan(t) */ select 1", "/*+ SeqScan(t) */select 1");
    check("select /* sortie: share=off */ 1", "select /* sortie: share=off */ 1");
    check("select 1 /*SORTIE x*/ /* y */", "select 1/*SORTIE x*/");
    check("-- sortie x\n/* y */ select 1", "-- sortie x\nselect 1");
    check("/* sorti */ select 1", "select 1");
}

#[test]
fn places_are_found_again() {
    let text = "  /* é */ select /* abc */ x -- d\n , y;";
    let read = Canonical::new(text).unwrap();
    assert_eq!(read.text, "select /**/ x --\n , y");
    for word in ["select", "x", ", y"] {
        let place = |text: &str| text[..text.find(word).unwrap()].chars().count() + 1;
        assert_eq!(read.original(place(&read.text)), place(text), "{word}");
        assert_eq!(read.canonical(place(text)), place(&read.text), "{word}");
    }
}
