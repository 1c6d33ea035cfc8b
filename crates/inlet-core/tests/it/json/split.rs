//! How a batch is taken apart.

use inlet_core::json::{JsonFault, JsonFaultKind, check, lines, split_array};

fn split(text: &str) -> Result<Vec<&str>, JsonFault> {
    Ok(split_array(text.as_bytes(), 100)?.into_iter().map(|range| &text[range]).collect())
}

fn split_lines(text: &str) -> Vec<&str> {
    lines(text.as_bytes(), 100).into_iter().map(|range| &text[range]).collect()
}

#[test]
fn an_array_is_split_into_its_elements_without_the_space_around_them() {
    for (text, elements) in [
        ("[]", &[] as &[_]),
        (" [ ] ", &[]),
        ("[1]", &["1"]),
        ("\n[ 1 ,\t{ \"a\" : [1, 2] } , \"x,]\" ]\n", &["1", "{ \"a\" : [1, 2] }", "\"x,]\""]),
        ("[[],[[]],{}]", &["[]", "[[]]", "{}"]),
        (r#"["\\","\"",",\\\","]"#, &[r#""\\""#, r#""\"""#, r#"",\\\",""#]),
        ("[true, false,null]", &["true", "false", "null"]),
    ] {
        assert_eq!(split(text).unwrap(), elements, "{text}");
    }
}

#[test]
fn a_bad_element_does_not_hide_the_others() {
    for (text, elements) in [
        ("[1,x y,3]", ["1", "x y", "3"]),
        ("[1,{\"a\":},3]", ["1", "{\"a\":}", "3"]),
        ("[1,[2,,],3]", ["1", "[2,,]", "3"]),
        ("[1,\"\\x\",3]", ["1", "\"\\x\"", "3"]),
        ("[1,\"a\nb\",3]", ["1", "\"a\nb\"", "3"]),
        ("[1,{\"a\":1,\"a\":1},3]", ["1", "{\"a\":1,\"a\":1}", "3"]),
    ] {
        let found = split(text).unwrap();
        assert_eq!(found, elements, "{text}");
        let good: Vec<_> = found.iter().map(|part| check(part.as_bytes(), 8).is_ok()).collect();
        assert_eq!(good, [true, false, true], "{text}");
    }
    let not_text = b"[1,\"\xff\",3]";
    assert_eq!(split_array(not_text, 100).unwrap(), [1..2, 3..6, 7..8]);
}

#[test]
fn the_place_of_a_fault_in_an_element_is_counted_from_its_beginning() {
    let text = "[\n1,\n  {\"a\":\n x}]";
    let fault = check(split(text).unwrap()[1].as_bytes(), 8).unwrap_err();
    assert_eq!((fault.line, fault.column), (2, 2));
}

#[test]
fn an_array_whose_elements_cannot_be_told_apart_is_a_fault() {
    use JsonFaultKind::*;
    for (text, kind, line, column) in [
        ("", Empty, 1, 1),
        (" \n", Empty, 2, 1),
        ("{}", ExpectedArray, 1, 1),
        (" 1", ExpectedArray, 1, 2),
        ("\u{feff}[]", ByteOrderMark, 1, 1),
        ("[", ArrayUnclosed, 1, 1),
        ("[1", ArrayUnclosed, 1, 1),
        ("[1,", ArrayUnclosed, 1, 1),
        ("[[1]", ArrayUnclosed, 1, 1),
        ("[[1", ArrayUnclosed, 1, 1),
        ("[1,]", ExpectedValue, 1, 4),
        ("[,1]", ExpectedValue, 1, 2),
        ("[1,,2]", ExpectedValue, 1, 4),
        ("[1] 2", TrailingData, 1, 5),
        ("[1]]", TrailingData, 1, 4),
        ("[1}", ExpectedCommaOrBracket, 1, 3),
        ("[{]}]", ExpectedCommaOrBracket, 1, 3),
        ("[[}]", ExpectedCommaOrBracket, 1, 3),
        ("[1,\n\"a]", StringUnclosed, 2, 1),
        // A quote is missing: 2 must not pass for a document, as it was meant as text.
        ("[\"x, \"1, 2, 3\", 4, \"y]", ExpectedCommaOrBracket, 1, 7),
        ("[\"x, \", 1\", 2]", StringUnclosed, 1, 10),
        ("[\"a\" \"b\"]", ExpectedCommaOrBracket, 1, 6),
        ("[1 \"b\"]", ExpectedCommaOrBracket, 1, 7),
    ] {
        let expected = Err(JsonFault { kind, line, column });
        assert_eq!(split(text), expected, "{text}");
    }
}

#[test]
fn an_array_that_splits_into_good_elements_is_good_as_a_whole() {
    for text in ["[1,2]", "[\"a\",{\"b\":[]}]", "[1 2]", "[{},}", "[\"\\\",\"]", "[1]x", "[[],{}]"]
    {
        let all =
            split(text).map(|parts| parts.iter().all(|part| check(part.as_bytes(), 8).is_ok()));
        assert_eq!(all == Ok(true), check(text.as_bytes(), 9).is_ok(), "{text}");
    }
}

#[test]
fn deep_nesting_is_split_without_a_stack() {
    let deep = format!("[1,{}{},2]", "[{\"a\":".repeat(100_000), "}]".repeat(100_000));
    assert_eq!(split(&deep).unwrap().len(), 3);
    let unclosed = format!("[{}", "[".repeat(100_000));
    assert_eq!(split(&unclosed).unwrap_err().kind, JsonFaultKind::ArrayUnclosed);
}

#[test]
fn splitting_stops_after_one_document_too_many() {
    let many = format!("[{}1]", "1,".repeat(10_000));
    assert_eq!(split_array(many.as_bytes(), 10).unwrap().len(), 11);
    assert_eq!(lines("1\n".repeat(10_000).as_bytes(), 10).len(), 11);
    assert_eq!(lines("1\n".repeat(10).as_bytes(), 10).len(), 10);
}

#[test]
fn lines_end_with_lf_or_crlf_and_empty_ones_are_left_out() {
    for (text, found) in [
        ("", &[] as &[_]),
        ("\n\r\n \t\n", &[]),
        ("1", &["1"]),
        ("1\n", &["1"]),
        ("1\r\n2\r\n", &["1", "2"]),
        ("\n\n{\"a\":1}\n\n[2]\n \n3", &["{\"a\":1}", "[2]", "3"]),
        (" 1 \n\t2\t", &[" 1 ", "\t2\t"]),
        ("1\r2\n", &["1\r2"]),
        ("1\r", &["1\r"]),
        ("x\n\"a\n2", &["x", "\"a", "2"]),
    ] {
        assert_eq!(split_lines(text), found, "{text:?}");
    }
}
