//! Our HTTP/1 against hyper's, on texts that are kept and on mutations of them.
//!
//! `INLET_FUZZ_CASES=1000000 cargo test -p inlet-server --release differential` runs longer. What
//! it finds is kept in `fuzz/corpus/http1`.

mod compare;

use std::fs;
use std::path::Path;

use self::compare::{Numbers, compare};

/// Mutations that are tried where nobody asks for more.
const CASES: u64 = 4_000;

/// The pieces that mutations put in: the bytes on which framing hangs.
const WORDS: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "0",
    "1",
    "f",
    "\0",
    "\u{7f}",
    "\u{e4}",
    "\"",
    "chunked",
    "close",
    "keep-alive",
    "0\r\n\r\n",
    "1\r\nx\r\n",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "GET / HTTP/1.1\r\n",
    "HTTP/1.0",
    "HTTP/1.1",
    "http://b/",
];

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/http1");
    let mut texts: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    texts.sort();
    assert!(texts.len() >= 50, "the corpus is gone");
    texts
}

#[test]
fn both_see_the_same_in_what_is_kept_or_ours_refuses_it() {
    for (_, bytes) in corpus() {
        for seed in 0..24 {
            compare(&bytes, seed);
        }
    }
}

#[test]
fn both_see_the_same_in_mutations_or_ours_refuses_them() {
    let cases = std::env::var("INLET_FUZZ_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let texts: Vec<Vec<u8>> = corpus().into_iter().map(|(_, bytes)| bytes).collect();
    let first = std::env::var("INLET_FUZZ_SEED").map_or(1, |seed| seed.parse().unwrap());
    for seed in first..first + cases {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut bytes = texts[numbers.below(texts.len())].clone();
        for _ in 0..=numbers.below(4) {
            mutate(&mut bytes, &texts, &mut numbers);
        }
        bytes.truncate(100_000);
        compare(&bytes, seed);
    }
}

fn mutate(bytes: &mut Vec<u8>, texts: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    match numbers.below(7) {
        0 | 1 => {
            let word = WORDS[numbers.below(WORDS.len())].bytes();
            bytes.splice(at..at, word);
        }
        2 => {
            let end = (at + 1 + numbers.below(4)).min(bytes.len());
            bytes.drain(at..end);
        }
        3 if at < bytes.len() => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
        4 => {
            let end = (at + numbers.below(40)).min(bytes.len());
            let twice = bytes[at..end].to_vec();
            bytes.splice(at..at, twice);
        }
        5 => {
            let other = &texts[numbers.below(texts.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[numbers.below(other.len() + 1)..]);
        }
        _ => bytes.extend_from_slice(&texts[numbers.below(texts.len())]),
    }
}
