use super::*;
use crate::sql::types::Element;

fn text(datum: &Datum, ty: Type) -> String {
    let mut output = Vec::new();
    assert!(datum.encode(ty, false, &mut output));
    String::from_utf8(output).unwrap()
}

fn refused(value: &str, ty: Type) -> (&'static str, String) {
    let error = Datum::parse(value, ty).unwrap_err();
    (error.code, error.message)
}

#[test]
fn integers_are_read_within_their_types() {
    assert_eq!(Datum::parse(" -42\t", Type::Int2).unwrap(), Datum::Int(-42));
    assert_eq!(Datum::parse("+9223372036854775807", Type::Int8).unwrap(), Datum::Int(i64::MAX));
    let message = "value \"32768\" is out of range for type smallint";
    assert_eq!(refused("32768", Type::Int2), ("22003", message.into()));
    for wrong in ["", "x", "1.0", "0x1", "--1", "1 2"] {
        let message = format!("invalid input syntax for type bigint: \"{wrong}\"");
        assert_eq!(refused(wrong, Type::Int8), ("22P02", message));
    }
}

#[test]
fn numeric_keeps_the_digits_it_was_written_with() {
    for (written, shown) in [
        ("1.50", "1.50"),
        ("1e5", "100000"),
        ("1.5e-3", "0.0015"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-0.0", "0.0"),
        ("  12345678901234567890.10 ", "12345678901234567890.10"),
        ("nan", "NaN"),
        ("-inf", "-Infinity"),
    ] {
        let value = Datum::parse(written, Type::Numeric).unwrap();
        assert_eq!(text(&value, Type::Numeric), shown, "{written}");
        let mut binary = Vec::new();
        value.encode(Type::Numeric, true, &mut binary);
        let back = Datum::Numeric(Decimal::from_binary(&binary).unwrap());
        assert_eq!(text(&back, Type::Numeric), shown, "{written} through the binary format");
    }
    for wrong in ["", ".", "1e", "e1", "1..2", "+NaN", "1 2"] {
        assert_eq!(refused(wrong, Type::Numeric).0, "22P02", "{wrong}");
    }
    for beyond in ["1e131073", "1e-16384", "1e999999999999"] {
        assert_eq!(refused(beyond, Type::Numeric).0, "22003", "{beyond}");
    }
}

/// What `numeric_send` of PostgreSQL 15 says.
#[test]
fn the_binary_format_of_numeric_is_postgresqls() {
    for (written, expected) in [
        ("0", [0x0000, 0x0000, 0x0000, 0x0000].as_slice()),
        ("10000", &[0x0001, 0x0001, 0x0000, 0x0000, 0x0001]),
        ("12345.678", &[0x0003, 0x0001, 0x0000, 0x0003, 0x0001, 0x0929, 0x1a7c]),
        ("-0.0001", &[0x0001, 0xffff, 0x4000, 0x0004, 0x0001]),
        ("0.00001", &[0x0001, 0xfffe, 0x0000, 0x0005, 0x03e8]),
        ("100000000.5", &[0x0004, 0x0002, 0x0000, 0x0001, 0x0001, 0x0000, 0x0000, 0x1388]),
        ("1.50", &[0x0002, 0x0000, 0x0000, 0x0002, 0x0001, 0x1388]),
        ("NaN", &[0x0000, 0x0000, 0xc000, 0x0000]),
        ("-Infinity", &[0x0000, 0x0000, 0xf000, 0x0020]),
    ] {
        let mut binary = Vec::new();
        Datum::parse(written, Type::Numeric).unwrap().encode(Type::Numeric, true, &mut binary);
        let expected: Vec<u8> = expected.iter().copied().flat_map(u16::to_be_bytes).collect();
        assert_eq!(binary, expected, "{written}");
    }
}

#[test]
fn casts_round_and_refuse_as_postgresql_does() {
    let numeric = |text: &str| Datum::parse(text, Type::Numeric).unwrap();
    assert_eq!(numeric("2.5").cast(Type::Int8).unwrap(), Datum::Int(3));
    assert_eq!(numeric("-2.5").cast(Type::Int8).unwrap(), Datum::Int(-3));
    assert_eq!(numeric("0.49").cast(Type::Int8).unwrap(), Datum::Int(0));
    assert_eq!(numeric("0.05").cast(Type::Int8).unwrap(), Datum::Int(0));
    assert_eq!(numeric("1e20").cast(Type::Int8).unwrap_err().message, "bigint out of range");
    assert_eq!(Datum::Int(70_000).cast(Type::Int2).unwrap_err().message, "smallint out of range");
    assert_eq!(Datum::Int(7).cast(Type::Text).unwrap(), Datum::Text("7".into()));
    assert_eq!(Datum::Null.cast(Type::Int8).unwrap(), Datum::Null);
    let negated = Datum::parse("-9223372036854775808", Type::Int8).unwrap().negated(Type::Int8);
    assert_eq!(negated.unwrap_err().message, "bigint out of range");
}

#[test]
fn numbers_compare_across_types_and_texts_by_bytes() {
    let numeric = |text: &str| Datum::parse(text, Type::Numeric).unwrap();
    let ascending = [
        numeric("-Infinity"),
        Datum::Int(i64::MIN),
        numeric("-1.5"),
        Datum::Int(-1),
        numeric("0.001"),
        numeric("0.01"),
        Datum::Int(1),
        numeric("9223372036854775806.5"),
        Datum::Int(i64::MAX),
        numeric("Infinity"),
        numeric("NaN"),
    ];
    for (a, low) in ascending.iter().enumerate() {
        for (b, high) in ascending.iter().enumerate() {
            assert_eq!(low.compare(high), Some(a.cmp(&b)), "{low:?} {high:?}");
        }
    }
    assert_eq!(numeric("1.0").compare(&Datum::Int(1)), Some(Ordering::Equal));
    let text = |text: &str| Datum::Text(text.into());
    assert_eq!(text("B").compare(&text("a")), Some(Ordering::Less));
    assert_eq!(text("z").compare(&text("é")), Some(Ordering::Less));
    assert_eq!(Datum::Null.compare(&Datum::Int(1)), None);
}

#[test]
fn arrays_are_read_from_text_and_bytes() {
    let ints = Type::Array(Element::Int8);
    let array = |items: &[Datum]| Datum::Array(items.into());
    let (one, two) = (Datum::Int(1), Datum::Int(2));
    assert_eq!(
        Datum::parse(" { 1 , NULL,\"2\" } ", ints).unwrap(),
        array(&[one.clone(), Datum::Null, two.clone()])
    );
    assert_eq!(Datum::parse("{}", ints).unwrap(), array(&[]));
    let texts = Datum::parse(r#"{a b ,"c,\"}",\N\,,"NULL"}"#, Type::Array(Element::Text)).unwrap();
    let text = |text: &str| Datum::Text(text.into());
    assert_eq!(texts, array(&[text("a b"), text("c,\"}"), text("N,"), text("NULL")]));
    for wrong in ["", "1", "{1", "{1,}", "{,1}", "{1}x", "{1\"2\"}", "{\"1}"] {
        let (code, message) = refused(wrong, ints);
        assert_eq!((code, message), ("22P02", format!("malformed array literal: \"{wrong}\"")));
    }
    assert_eq!(refused("{x}", ints).1, "invalid input syntax for type bigint: \"x\"");
    assert_eq!(refused("{{1},{2}}", ints).0, "0A000");
    let many = format!("{{{}1}}", "1,".repeat(10_000));
    assert_eq!(refused(&many, ints).0, "54000");

    let head = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 1];
    let items = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255];
    let bytes: Vec<u8> = head.into_iter().chain(items).collect();
    let read = |bytes: &[u8]| crate::sql::decode::binary(bytes, ints);
    assert_eq!(read(&bytes).unwrap(), array(&[one, Datum::Null]));
    for length in 0..bytes.len() {
        assert_eq!(read(&bytes[..length]).unwrap_err().code, "22P03", "{length}");
    }
    let mut other = bytes.clone();
    other[11] = 23;
    assert_eq!(read(&other).unwrap_err().code, "42804");
}
