//! Which fields documents have.

use inlet_core::fields::{FIELD_PATH_BYTES_MAX, FIELD_PATHS_MAX, FieldCounts, FieldType};

fn count(bodies: &[&str]) -> FieldCounts {
    let mut counts = FieldCounts::default();
    bodies.iter().for_each(|body| counts.count(body.as_bytes()));
    counts
}

/// Each line is a path, a type and a number of documents, in the order of the text.
fn table(counts: &FieldCounts) -> Vec<String> {
    let mut lines: Vec<_> =
        counts.iter().map(|(path, kind, documents)| format!("{path} {kind} {documents}")).collect();
    lines.sort();
    lines
}

#[track_caller]
fn assert_table(bodies: &[&str], expected: &[&str]) {
    assert_eq!(table(&count(bodies)), expected, "{bodies:?}");
}

#[test]
fn each_type_is_counted_under_its_path() {
    assert_table(
        &[
            r#" { "s" : "x" , "n" : -1.5e3 , "t" : true , "f" : false , "z" : null , "a" : [ ] , "o" : { } } "#,
        ],
        &[
            "a array 1",
            "f boolean 1",
            "n number 1",
            "o object 1",
            "s string 1",
            "t boolean 1",
            "z null 1",
        ],
    );
}

#[test]
fn a_path_names_what_is_around_a_field() {
    assert_table(
        &[
            r#"{"user":{"address":{"city":"Ulm"}},"items":[{"sku":"A","tags":["x",1]},{"sku":"B"}]}"#,
        ],
        &[
            "items array 1",
            "items[] object 1",
            "items[].sku string 1",
            "items[].tags array 1",
            "items[].tags[] number 1",
            "items[].tags[] string 1",
            "user object 1",
            "user.address object 1",
            "user.address.city string 1",
        ],
    );
}

#[test]
fn documents_are_counted_and_not_how_often_each_has_a_field() {
    assert_table(
        &[r#"{"a":[1,2,"x",3]}"#, r#"{"a":[]}"#, r#"{"a":[4]}"#, r#"{"b":1}"#],
        &["a array 3", "a[] number 2", "a[] string 1", "b number 1"],
    );
}

#[test]
fn a_document_that_is_no_object_is_counted_as_the_root() {
    assert_table(
        &["1", "\"x\"", "null", "true", "[]", "[1,[2]]", "[{\"a\":1}]", "{}"],
        &[
            "$ array 3",
            "$ boolean 1",
            "$ null 1",
            "$ number 1",
            "$ string 1",
            "$[] array 1",
            "$[] number 1",
            "$[] object 1",
            "$[].a number 1",
            "$[][] number 1",
        ],
    );
}

#[test]
fn names_that_look_like_a_path_are_quoted() {
    for (name, path) in [
        (r"", r#""""#),
        (r"a.b", r#""a.b""#),
        (r"a[]", r#""a[]""#),
        (r"]", r#""]""#),
        (r"$", r#""$""#),
        (r"…", r#""…""#),
        (r"$ref", "$ref"),
        (r"@type", "@type"),
        (r"two words", "two words"),
        (r"grün", "grün"),
        (r#"a\"b"#, r#""a\"b""#),
        (r"a\\b", r#""a\\b""#),
        (r"a\nb", r#""a\nb""#),
        (r"\u0000", r#""\u0000""#),
        (r"\u0085", r#""\u0085""#),
        (r"\u0061", "a"),
        (r"\u002e", r#"".""#),
    ] {
        let body = format!("{{\"{name}\":1,\"in\":{{\"{name}\":[2]}}}}");
        let mut expected = [
            format!("{path} number 1"),
            "in object 1".to_owned(),
            format!("in.{path} array 1"),
            format!("in.{path}[] number 1"),
        ];
        expected.sort();
        assert_eq!(table(&count(&[&body])), expected, "{name}");
    }
}

#[test]
fn different_fields_never_share_a_path() {
    let counts = count(&[
        r#"{"a":{"b":1},"a.b":1,"c":[1],"c[]":1,"\"a\"":{"b":1},"":{"":1},".":1,"$":[1],"…":1}"#,
        "[1]",
    ]);
    let mut paths: Vec<_> = counts.iter().map(|(path, _, _)| path.to_owned()).collect();
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!((all, paths.len()), (16, 16), "{paths:?}");
}

#[test]
fn the_same_name_is_the_same_field_however_it_is_written() {
    assert_table(&[r#"{"a":1}"#, r#"{"\u0061":2}"#, "{\n\t\"a\"\n:\n3\n}"], &["a number 3"]);
}

#[test]
fn what_is_deeper_than_four_names_is_not_looked_at() {
    assert_table(
        &[r#"{"a":{"b":{"c":{"d":{"e":{"f":1}},"x":[{"y":1}]}}},"z":[[[[[[[[[1]]]]]]]]]}"#],
        &[
            "a object 1",
            "a.b object 1",
            "a.b.c object 1",
            "a.b.c.d object 1",
            "a.b.c.x array 1",
            "a.b.c.x[] object 1",
            "z array 1",
            "z[] array 1",
            "z[][] array 1",
            "z[][][] array 1",
            "z[][][][] array 1",
            "z[][][][][] array 1",
            "z[][][][][][] array 1",
            "z[][][][][][][] array 1",
        ],
    );
}

#[test]
fn fields_behind_what_is_not_looked_at_are_counted() {
    assert_table(
        &[r#"{"a":{"b":{"c":{"d":{"e":"}]\"{[","f":[{}]},"g":1},"h":1},"i":1},"j":1}"#],
        &[
            "a object 1",
            "a.b object 1",
            "a.b.c object 1",
            "a.b.c.d object 1",
            "a.b.c.g number 1",
            "a.b.h number 1",
            "a.i number 1",
            "j number 1",
        ],
    );
}

#[test]
fn paths_beyond_the_limit_are_counted_together() {
    let mut counts = FieldCounts::default();
    for n in 0..FIELD_PATHS_MAX {
        counts.count(format!("{{\"n{n}\":1}}").as_bytes());
    }
    assert!(table(&counts).iter().all(|line| !line.starts_with('…')));
    counts.count(b"{\"n0\":1,\"more\":1,\"and more\":{\"n1\":1},\"yet more\":2}");
    counts.count(b"{\"and more\":[{\"a\":1},2],\"n1\":\"x\"}");
    let found: Vec<_> = counts.iter().take(4).collect();
    let expected = [
        ("…", FieldType::Number, 1),
        ("…", FieldType::Array, 1),
        ("…", FieldType::Object, 1),
        ("n0", FieldType::Number, 2),
    ];
    assert_eq!(found, expected);
    assert_eq!(counts.iter().map(|(path, _, _)| path).skip(3).count(), FIELD_PATHS_MAX + 1);
}

#[test]
fn a_path_that_is_too_long_is_counted_with_the_rest() {
    let name = |length: usize| "x".repeat(length);
    let body = format!(
        "{{\"{}\":1,\"{}\":2,\"a\":{{\"{}\":3,\"{}\":4}},\"{}\":5}}",
        name(FIELD_PATH_BYTES_MAX),
        name(FIELD_PATH_BYTES_MAX + 1),
        name(FIELD_PATH_BYTES_MAX - 2),
        name(FIELD_PATH_BYTES_MAX - 1),
        ".".repeat(FIELD_PATH_BYTES_MAX - 1),
    );
    let counts = count(&[&body]);
    let lengths: Vec<_> = counts.iter().map(|(path, _, n)| (path.len(), n)).collect();
    assert_eq!(lengths, [("…".len(), 1), (200, 1), (1, 1), (200, 1)]);
}

#[test]
fn counts_of_two_sets_of_documents_add_up() {
    let (one, two) = (
        [r#"{"a":{"b":1}}"#, r#"{"a":"x","c":[1]}"#],
        [r#"{"c":[{"d":null}],"a":{"b":"x"}}"#, "7"],
    );
    let mut merged = count(&one);
    merged.merge(&count(&two));
    assert_eq!(table(&merged), table(&count(&[one, two].concat())));
    merged.merge(&FieldCounts::default());
    assert_eq!(table(&merged), table(&count(&[one, two].concat())));
    let mut from_nothing = FieldCounts::default();
    from_nothing.merge(&merged);
    assert_eq!(table(&from_nothing), table(&merged));
    // What is counted later is not taken for a document that was merged.
    from_nothing.count(b"7");
    merged.count(b"7");
    assert_eq!(table(&from_nothing), table(&merged));
}

#[test]
fn what_finds_no_room_in_a_merge_is_added_to_the_rest() {
    let many = |prefix: &str| {
        let bodies: Vec<_> = (0..200).map(|n| format!("{{\"{prefix}{n}\":{{\"x\":1}}}}")).collect();
        count(&bodies.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let total = |counts: &FieldCounts| counts.iter().map(|(_, _, n)| n).sum::<u64>();
    let (mut merged, other) = (many("a"), many("b"));
    let before = (total(&merged), total(&other));
    merged.merge(&other);
    assert_eq!(total(&merged), before.0 + before.1);
    let paths: std::collections::HashSet<_> = merged.iter().map(|(path, _, _)| path).collect();
    assert_eq!(paths.len(), FIELD_PATHS_MAX + 1);
}

#[test]
fn text_that_is_no_json_is_counted_up_to_where_it_breaks_off() {
    assert_table(&[r#"{"a":1,"b":[true,"x"#], &["a number 1", "b array 1", "b[] boolean 1"]);
    for text in ["", " ", "{", "}", "]]", "[,", "{\"a\"}", "{\"a\":}", "{1:2}", "\"", "x", "[1}}}}"]
    {
        count(&[text]);
    }
    let mut counts = FieldCounts::default();
    counts.count(b"{\"\xff\":1,\"\\ud800\":2}");
    counts.count(&b"[".repeat(100_000));
    counts.count(&b"{\"a\":".repeat(100_000));
    let whole =
        r#"{"a":[{"b":"\u00e9\ud83d\ude00"},-1.5e3,null,[[[]]]],"c":{"d":{"e":{"f":{"g":[{}]}}}}}"#;
    for length in 0..whole.len() {
        counts.count(&whole.as_bytes()[..length]);
        counts.count(&whole.as_bytes()[length..]);
    }
}

#[test]
fn nothing_counted_is_nothing_to_tell() {
    assert_eq!(FieldCounts::default().iter().count(), 0);
    assert_eq!(count(&["{}"]).iter().count(), 0);
}

#[test]
fn a_type_is_written_as_its_name() {
    for kind in FieldType::ALL {
        let text = serde_json::to_string(&kind).unwrap();
        assert_eq!(text, format!("\"{kind}\""));
        assert_eq!(serde_json::from_str::<FieldType>(&text).unwrap(), kind);
    }
}
