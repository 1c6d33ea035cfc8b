//! Texts nobody thought of, read here and by serde_json.

use inlet_core::json::{JsonFaultKind, check};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::Value;

const DOCUMENTS: usize = 2_000;
const MUTATIONS: usize = 12;
const DEPTH_MAX: usize = 100;

/// A seed from `INLET_TEST_SEED`, or a fresh one; it is printed where the test fails.
#[expect(clippy::print_stdout, reason = "a failure must be able to be made again")]
fn seed() -> u64 {
    let seed = std::env::var("INLET_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("INLET_TEST_SEED={seed}");
    seed
}

fn space(rng: &mut StdRng, text: &mut String) {
    if rng.random_ratio(1, 6) {
        for _ in 0..rng.random_range(1..12) {
            text.push([' ', ' ', ' ', '\n', '\t', '\r'][rng.random_range(0..6)]);
        }
    }
}

fn string(rng: &mut StdRng, text: &mut String) {
    text.push('"');
    for _ in 0..rng.random_range(0..20) {
        match rng.random_range(0..40) {
            0 => text.push_str("\\n"),
            1 => text.push_str("\\\""),
            2 => text.push_str("\\\\"),
            3 => text.push_str("\\u00e9"),
            4 => text.push_str("\\uD83D\\ude00"),
            5 => text.push('ä'),
            6 => text.push('漢'),
            7 => text.push('😀'),
            8 => text.push_str("\\u0000"),
            _ => text.push(char::from(rng.random_range(b'a'..=b'z'))),
        }
    }
    text.push('"');
}

fn number(rng: &mut StdRng, text: &mut String) {
    match rng.random_range(0..4) {
        0 => text.push_str(&rng.random::<i64>().to_string()),
        1 => text.push_str(&rng.random_range(-9..10).to_string()),
        2 => text.push_str(&format!("{:e}", rng.random::<f64>() * 1e9)),
        _ => text.push_str(&(rng.random::<f64>() - 0.5).to_string()),
    }
}

/// A value with different names in each object.
fn value(rng: &mut StdRng, depth: usize, text: &mut String) {
    space(rng, text);
    match rng.random_range(0..if depth == 0 { 5 } else { 9 }) {
        0 => text.push_str("null"),
        1 => text.push_str("true"),
        2 => text.push_str("false"),
        3 => string(rng, text),
        4 => number(rng, text),
        5 | 6 => {
            text.push('[');
            for index in 0..rng.random_range(0..6) {
                text.push_str(if index > 0 { "," } else { "" });
                value(rng, depth - 1, text);
            }
            space(rng, text);
            text.push(']');
        }
        _ => {
            text.push('{');
            for index in 0..rng.random_range(0..8) {
                text.push_str(if index > 0 { "," } else { "" });
                space(rng, text);
                string(rng, text);
                // Before the closing quote, so that no two are the same.
                text.insert_str(text.len() - 1, &format!("{index}"));
                space(rng, text);
                text.push(':');
                value(rng, depth - 1, text);
            }
            space(rng, text);
            text.push('}');
        }
    }
    space(rng, text);
}

/// Changes one to three bytes.
fn mutate(rng: &mut StdRng, text: &mut Vec<u8>) {
    const BYTES: &[u8] = b"{}[]:,\"\\u019.eE+-ntf \n\0\x1f\x7f\x80\xc3\xff";
    for _ in 0..rng.random_range(1..=3) {
        if text.is_empty() {
            return;
        }
        let at = rng.random_range(0..text.len());
        let byte = BYTES[rng.random_range(0..BYTES.len())];
        match rng.random_range(0..6) {
            0 => {
                text.remove(at);
            }
            1 => text.insert(at, byte),
            2 => text.truncate(at),
            3 => {
                let other = rng.random_range(0..text.len());
                text.swap(at, other);
            }
            4 => {
                let end = (at + rng.random_range(1..12)).min(text.len());
                let copy = text[at..end].to_vec();
                text.splice(at..at, copy);
            }
            _ => text[at] = byte,
        }
    }
}

/// Both must agree, but for what the table in the docs decides otherwise.
fn compare(text: &[u8]) {
    let ours = check(text, DEPTH_MAX);
    match (serde_json::from_slice::<Value>(text), ours) {
        (Ok(_), Ok(())) => {}
        (Ok(_), Err(fault)) => {
            assert_eq!(fault.kind, JsonFaultKind::DuplicateName, "{}", text.escape_ascii());
        }
        (Err(_), Err(_)) => {}
        // It has no number for 1e400; here the text is kept.
        (Err(error), Ok(())) => {
            let is_range = error.to_string().starts_with("number out of range");
            assert!(is_range, "{error}: {}", text.escape_ascii());
        }
    }
}

#[test]
fn random_texts_are_judged_as_serde_json_judges_them() {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut refused = 0;
    for _ in 0..DOCUMENTS {
        let mut text = String::new();
        value(&mut rng, 5, &mut text);
        assert_eq!(check(text.as_bytes(), DEPTH_MAX), Ok(()), "{text}");
        compare(text.as_bytes());
        for _ in 0..MUTATIONS {
            let mut bytes = text.clone().into_bytes();
            mutate(&mut rng, &mut bytes);
            refused += usize::from(check(&bytes, DEPTH_MAX).is_err());
            compare(&bytes);
        }
    }
    assert!(refused > DOCUMENTS, "only {refused} texts were wrong");
}

#[test]
fn the_same_seed_makes_the_same_texts() {
    let text = |seed| {
        let mut text = String::new();
        value(&mut StdRng::seed_from_u64(seed), 5, &mut text);
        text
    };
    assert_eq!((0..20).map(text).collect::<Vec<_>>(), (0..20).map(text).collect::<Vec<_>>());
}

#[test]
fn random_bytes_are_judged_as_serde_json_judges_them() {
    const BYTES: &[u8] = b"{}[]:,\"\"\"\\u01-.e truefalsn\xc3\xa4";
    let mut rng = StdRng::seed_from_u64(seed());
    for _ in 0..20_000 {
        let length = rng.random_range(0..12);
        let text: Vec<_> = (0..length).map(|_| BYTES[rng.random_range(0..BYTES.len())]).collect();
        compare(&text);
    }
}

#[test]
fn the_elements_of_a_random_array_are_told_apart_as_serde_json_tells_them() {
    let mut rng = StdRng::seed_from_u64(seed());
    for _ in 0..500 {
        let elements: Vec<_> = (0..rng.random_range(0..6))
            .map(|_| {
                let mut text = String::new();
                value(&mut rng, 3, &mut text);
                text
            })
            .collect();
        let batch = format!("[{}]", elements.join(","));
        let ranges = inlet_core::json::split_array(batch.as_bytes(), 10).unwrap();
        let found: Vec<_> = ranges.into_iter().map(|range| &batch[range]).collect();
        let space = [' ', '\t', '\n', '\r'];
        let wanted: Vec<_> = elements.iter().map(|text| text.trim_matches(space)).collect();
        assert_eq!(found, wanted);
    }
}
