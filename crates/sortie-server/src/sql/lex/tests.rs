use super::Token::{Number, Operator, OtherString, Param, Punctuation, Quoted, String, Word};
use super::*;

fn check(text: &str, expected: &[Token]) {
    let found: Vec<_> = lex(text).unwrap().into_iter().map(|lexeme| lexeme.token).collect();
    assert_eq!(found, expected, "{text}");
}

fn refuse(text: &str, code: &str, message: &str, position: usize) {
    let error = lex(text).unwrap_err();
    let found = (error.code, error.message.as_str(), error.position);
    assert_eq!(found, (code, message, Some(position)), "{text}");
}

#[test]
fn names_fold_unless_they_are_quoted() {
    check("User_ID", &[Word("user_id".into())]);
    check("ÄB$1", &[Word("Äb$1".into())]);
    check("\"User_ID\"", &[Quoted("User_ID".into())]);
    check("\"a\"\"b\"", &[Quoted("a\"b".into())]);
    let long = "x".repeat(62) + "éy";
    check(&long, &[Word("x".repeat(62))]);
    refuse("a \"\"", "42601", "zero-length delimited identifier at or near \"\"\"\"", 3);
}

#[test]
fn strings_mean_what_they_mean_to_postgresql() {
    let string = |text: &str| String(text.into());
    check("'it''s \\n'", &[string("it's \\n")]);
    check("'a'  -- c\n  'b'", &[string("ab")]);
    check("'a' 'b'", &[string("a"), string("b")]);
    check(r"E'\b\t\n\'\\\q''\101\x41\u00e9\U0001F600'", &[string("\x08\t\n'\\q'AAé😀")]);
    check(r"e'\xc3\xa9'", &[string("é")]);
    check("$$it's$$", &[string("it's")]);
    check("$a$ $$ $b$ $a$", &[string(" $$ $b$ ")]);
    check("x'1f' U&'a'", &[OtherString, OtherString]);
    refuse(r"E'\u12'", "22025", "invalid Unicode escape", 1);
    refuse(r"E'\U00110000'", "42601", "invalid Unicode escape value", 1);
    check(r"E'\ud83d\ude00 \uD83D\U0000DE00'", &[string("😀 😀")]);
    for unpaired in [r"E'\ud83d'", r"E'\ud83dx'", r"E'\ud83d\ud83d'", r"E'\ude00'"] {
        refuse(unpaired, "42601", "invalid Unicode surrogate pair", 1);
    }
    for (text, shown) in [(r"E'\xff'", "0xff"), (r"E'\000'", "0x00"), (r"E'\xc3('", "0xc3 0x28")] {
        let error = lex(text).unwrap_err();
        let message = format!("invalid byte sequence for encoding \"UTF8\": {shown}");
        assert_eq!((error.code, error.message, error.position), ("22021", message, None));
    }
}

#[test]
fn numbers_end_where_postgresql_ends_them() {
    let number = |text: &str| Number(text.into());
    check("1 1.5 .5 5. 1e5 1.5e-3", &["1", "1.5", ".5", "5.", "1e5", "1.5e-3"].map(number));
    check("1..2", &[number("1"), Punctuation(".."), number("2")]);
    check("$1 $23", &[Param(1), Param(23)]);
    check("$99999999999", &[Param(u32::MAX)]);
    refuse("1 123abc", "42601", "trailing junk after numeric literal at or near \"123abc\"", 3);
    refuse("1e", "42601", "trailing junk after numeric literal at or near \"1e\"", 1);
    refuse("1e+", "42601", "trailing junk after numeric literal at or near \"1e+\"", 1);
    refuse("$1abc", "42601", "trailing junk after parameter at or near \"$1abc\"", 1);
}

#[test]
fn operators_are_cut_as_postgresql_cuts_them() {
    let operator = |text: &str| Operator(text.into());
    check("=-1", &[operator("="), operator("-"), Number("1".into())]);
    check("<>-", &[operator("<>"), operator("-")]);
    check("!=", &[operator("<>")]);
    check("@-", &[operator("@-")]);
    check("== <=", &[operator("=="), operator("<=")]);
    check("a<--b", &[Word("a".into()), operator("<")]);
    check("*/*x*/", &[operator("*")]);
    check("::", &[Punctuation("::")]);
    check("- -", &[operator("-"), operator("-")]);
    check("\u{1}", &[Token::Unknown('\u{1}')]);
}

#[test]
fn positions_count_characters() {
    let found: Vec<_> = lex("'é' x /* é */ y").unwrap().iter().map(|l| l.position).collect();
    assert_eq!(found, [1, 5, 15]);
}
