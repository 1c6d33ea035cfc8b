//! What is accepted as JSON, and how a batch is taken apart.

mod cases;
mod random;
mod split;

use std::time::{Duration, Instant};

use inlet_core::json::{JsonFault, JsonFaultKind, check};

use self::cases::{ACCEPTED, DEPTH_MAX, REFUSED};

fn kind(text: &[u8]) -> Option<JsonFaultKind> {
    check(text, 128).err().map(|fault| fault.kind)
}

#[test]
fn each_text_of_the_table_is_accepted() {
    for text in ACCEPTED {
        assert_eq!(check(text, DEPTH_MAX), Ok(()), "{}", text.escape_ascii());
    }
}

#[test]
fn each_text_of_the_table_is_refused_where_it_is_wrong() {
    for &(text, kind, line, column) in REFUSED {
        let expected = Err(JsonFault { kind, line, column });
        assert_eq!(check(text, DEPTH_MAX), expected, "{}", text.escape_ascii());
    }
}

#[test]
fn the_table_is_long_enough() {
    assert!(ACCEPTED.len() >= 75 && REFUSED.len() >= 150, "{} {}", ACCEPTED.len(), REFUSED.len());
}

#[test]
fn a_fault_says_what_is_wrong_and_where() {
    let text = |text: &[u8]| check(text, 2).unwrap_err().to_string();
    assert_eq!(text(b"{\n\n  \"a\":\"b"), "a string is not closed at line 3, column 7");
    assert_eq!(text(b"[[[]]]"), "arrays and objects are nested deeper than 2 at line 1, column 3");
    assert_eq!(text(b"\xff"), "the text is not UTF-8 at line 1, column 1");
}

#[test]
fn each_prefix_of_a_text_is_refused() {
    let text = r#" {"a\u00e9":[1.5e-3,true,null,"\ud83d\ude00 ä"], "b": {"c":{}, "d":[[]]}}"#;
    assert_eq!(check(text.as_bytes(), 8), Ok(()));
    for length in 0..text.len() {
        assert!(check(&text.as_bytes()[..length], 8).is_err(), "{length}");
    }
}

#[test]
fn each_place_in_a_word_ends_a_string_a_number_and_a_space() {
    for length in 0..40 {
        let (letters, digits, blanks) =
            ("x".repeat(length), "1".repeat(length + 1), " ".repeat(length));
        let text =
            format!("{{\"{letters}\":{blanks}{digits}{blanks},{blanks}\"y\":\"{letters}\"}}");
        assert_eq!(check(text.as_bytes(), 1), Ok(()), "{text}");
        for (bad, wanted) in [
            (format!("\"{letters}"), JsonFaultKind::StringUnclosed),
            (format!("\"{letters}\u{1}{letters}\""), JsonFaultKind::ControlCharacter),
            (format!("\"{letters}\\q{letters}\""), JsonFaultKind::EscapeInvalid),
            (format!("{digits}.{blanks}"), JsonFaultKind::NumberInvalid),
            (format!("{digits}{blanks}:"), JsonFaultKind::TrailingData),
            (format!("[{blanks}"), JsonFaultKind::ArrayUnclosed),
        ] {
            assert_eq!(kind(bad.as_bytes()), Some(wanted), "{bad}");
        }
    }
}

#[test]
fn every_byte_below_32_is_refused_in_a_string_at_every_place() {
    for place in 0..20 {
        for control in 0..32_u8 {
            let mut text = vec![b'x'; 22];
            (text[0], text[21], text[place + 1]) = (b'"', b'"', control);
            let fault = check(&text, 0).unwrap_err();
            assert_eq!(fault.kind, JsonFaultKind::ControlCharacter, "{control} at {place}");
        }
    }
}

#[test]
fn nesting_ends_at_the_limit_and_not_before() {
    for (open, close, inner) in [("[", "]", ""), ("{\"a\":", "}", "1")] {
        let text = |depth: usize| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
        assert_eq!(check(text(128).as_bytes(), 128), Ok(()));
        assert_eq!(kind(text(129).as_bytes()), Some(JsonFaultKind::TooDeep { limit: 128 }));
    }
    assert_eq!(check(b"1", 0), Ok(()));
    assert_eq!(check(b"[]", 0).unwrap_err().kind, JsonFaultKind::TooDeep { limit: 0 });
}

#[test]
fn a_body_nested_without_end_is_refused_and_one_within_its_limit_is_read() {
    let unclosed = b"[".repeat(24 << 10);
    assert_eq!(kind(&unclosed), Some(JsonFaultKind::TooDeep { limit: 128 }));
    let fault = check(&unclosed, usize::MAX).unwrap_err();
    assert_eq!((fault.kind, fault.column), (JsonFaultKind::ArrayUnclosed, 24 << 10));
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    assert_eq!(check(&deep, 10_000), Ok(()));
    let objects = [b"{\"a\":".repeat(10_000), b"1".to_vec(), b"}".repeat(10_000)].concat();
    assert_eq!(check(&objects, 10_000), Ok(()));
    assert_eq!(kind(&objects), Some(JsonFaultKind::TooDeep { limit: 128 }));
}

/// An object with these names.
fn object(names: impl Iterator<Item = String>) -> String {
    let members: Vec<_> = names.map(|name| format!("\"{name}\":0")).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn a_name_is_found_again_in_objects_of_every_size() {
    for count in (1..150).chain([1_000]) {
        let names = || (0..count).map(|n| format!("name{n}"));
        let good = object(names());
        assert_eq!(check(good.as_bytes(), 1), Ok(()), "{count}");
        for again in [0, count / 2, count - 1] {
            let plain = object(names().chain([format!("name{again}")]));
            let escaped = object(names().chain([format!("n\\u0061me{again}")]));
            for bad in [plain, escaped] {
                let fault = check(bad.as_bytes(), 1).unwrap_err();
                let place = bad.rfind(",\"").unwrap() + 2;
                let found = (fault.kind, fault.column);
                assert_eq!(found, (JsonFaultKind::DuplicateName, place), "{count}");
            }
        }
    }
}

#[test]
fn large_objects_inside_large_objects_keep_their_names_apart() {
    let inner = object((0..100).map(|n| format!("n{n}")));
    let outer = |last: &str| {
        let members: Vec<_> = (0..100).map(|n| format!("\"n{n}\":{inner}")).collect();
        format!("{{{},\"{last}\":[{inner},{inner}]}}", members.join(","))
    };
    assert_eq!(check(outer("last").as_bytes(), 3), Ok(()));
    assert_eq!(kind(outer("n99").as_bytes()), Some(JsonFaultKind::DuplicateName));
    assert_eq!(kind(outer("n0").as_bytes()), Some(JsonFaultKind::DuplicateName));
}

#[test]
fn names_made_to_look_alike_cost_no_more_than_a_moment() {
    // What the fast comparison looks at is the same in all of them.
    let alike = object((0..100_000).map(|n| format!("the same begin {n:06} the same end")));
    let short = object((0..100_000).map(|n| format!("{n}")));
    let small: Vec<_> = (0..1_000)
        .map(|_| object((0..64).map(|n| format!("the same begin {n:06} the same end"))))
        .collect();
    for text in [alike, short, format!("[{}]", small.join(","))] {
        let begin = Instant::now();
        assert_eq!(check(text.as_bytes(), 2), Ok(()));
        // A comparison of each with each would take minutes.
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}

#[test]
fn a_refused_text_leaves_nothing_behind_for_the_next() {
    for _ in 0..3 {
        assert!(check(b"{\"a\":{\"b\":[{\"c\":", 8).is_err());
        assert_eq!(check(b"{\"a\":1,\"b\":2,\"c\":3}", 8), Ok(()));
        assert!(
            check(object((0..100).map(|n| n.to_string())).replace('}', "").as_bytes(), 8).is_err()
        );
        assert_eq!(check(object((0..100).map(|n| n.to_string())).as_bytes(), 8), Ok(()));
    }
}
