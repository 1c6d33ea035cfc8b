//! The description of the API, held against what the handlers take and refuse.

use std::collections::BTreeSet;

use fancy_regex::Regex;
use serde_json::Value;

use crate::client::{Answer, ask};
use crate::harness::{ALL, Harness};

const ID: &str = "019aa2f0-1111-7222-8333-444455556666";
const SHA256: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
const DATE: &str = "Sat, 21 Nov 2026 02:03:18 GMT";

/// Values of a parameter on both sides of its rule.
struct Sides {
    taken: Vec<String>,
    /// Empty for headers that RFC 9110 asks to ignore where they make no sense.
    refused: Vec<String>,
}

fn sides(name: &str, method: &str) -> Sides {
    let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let long = |character: &str, length: usize| character.repeat(length);
    let (taken, refused) = match name {
        "stream" => (
            [text(&["a", "_", "A-z_0"]), vec![long("s", 64)]].concat(),
            [text(&["", "-a", "a.b", "a/b", "a b", "ä"]), vec![long("s", 65)]].concat(),
        ),
        "id" => (
            text(&[ID, "00000000-0000-0000-0000-000000000000", &ID.to_uppercase()]),
            text(&["x", &ID[1..], &format!("{ID}0"), &ID.replace('-', "_"), &ID.replace('0', "g")]),
        ),
        "week" => (
            text(&["2026-W01", "2026-W53", "2025-W53", "0000-W10.json", "9999-W52.html"]),
            text(&["2026-W00", "2026-W54", "2026-W1", "26-W10", "2026-10", "2026-W10.txt"]),
        ),
        "view" => (text(&["full"]), text(&["", "Full", "all"])),
        "from" | "to" => (
            text(&[
                "2026-11-21T02:03:18Z",
                "2024-02-29T23:59:59.123456789+23:59",
                "9998-12-31T00:00:00-00:00",
                "0001-01-01t00:00:00z",
            ]),
            text(&[
                "",
                "2026-11-21",
                "2026-11-21 02:03:18Z",
                "2026-13-21T02:03:18Z",
                "2026-11-21T24:03:18Z",
                "2026-11-21T02:03:18.1234567890Z",
                "2026-11-21T02:03:18",
                "9999-11-21T02:03:18Z",
            ]),
        ),
        "limit" => {
            (text(&["1", "100", "1001", "99999999999999999999"]), text(&["0", "-1", "x", ""]))
        }
        // Of a cursor only its form can be described: most of them were never given.
        "cursor" if method == "FILES" => (file_keys().0, file_keys().1),
        "cursor" => (vec![], vec![String::new(), "a b".to_owned(), long("1", 1_025)]),
        "where" => (
            [
                text(&[
                    "",
                    "stream=orders",
                    "cause=refused , class=x",
                    &format!("id={ID},since=2026-11-21T02:03:18Z,before=2026-11-22T00:00:00+01:00"),
                ]),
                vec![format!("cause={}", long("c", 1_018))],
            ]
            .concat(),
            [
                text(&["stream", "colour=red", "stream=a.b", "id=1", "since=yesterday"]),
                vec![format!("cause={}", long("c", 1_019))],
            ]
            .concat(),
        ),
        "Idempotency-Key" => (
            [text(&["k", "a b", "~!"]), vec![long("k", 250), long("k", 255)]].concat(),
            [text(&["", "ä"]), vec![long("k", 256)]].concat(),
        ),
        "key" => file_keys(),
        "prefix" if method == "DOCUMENTS" => (
            text(&[
                "019aa2f0",
                "019AA2F01",
                "019aa2f0-",
                "019aa2f0-1111-7",
                ID,
                &ID.replace('-', ""),
            ]),
            text(&["", "019aa2f", "019aa2fg", "019-aa2f0", "019aa2f0--1", "019aa2f0-11112"]),
        ),
        "prefix" => (
            [text(&["", "a/", "..", "ä"]), vec![long("p", 1_018)]].concat(),
            [text(&["a\u{1}"]), vec![long("p", 1_019)]].concat(),
        ),
        "name" => (
            [text(&["a", "A.b_c@d-1"]), vec![long("n", 64)]].concat(),
            [text(&["a b", "ä", "a/b"]), vec![long("n", 65)]].concat(),
        ),
        "last" if method == "DOCUMENTS" => {
            (text(&["0", "1", "1001", "99999999999999999999"]), text(&["-1", "x", ""]))
        }
        "last" => (text(&["true", "false"]), text(&["", "yes", "True"])),
        "uploads" => (text(&[""]), text(&["1"])),
        "uploadId" => (
            [text(&["u", "~"]), vec![long("u", 1_024)]].concat(),
            [text(&["", "a b", "ä"]), vec![long("u", 1_025)]].concat(),
        ),
        "partNumber" => (text(&["1", "10000"]), text(&["0", "10001", "-1", "x", "70000"])),
        "Content-Type" => (
            [text(&["a", "video/mp4; a=\"b c\""]), vec![long("t", 255)]].concat(),
            [text(&["ä"]), vec![long("t", 256)]].concat(),
        ),
        "Content-MD5" => (
            text(&["1B2M2Y8AsgTpgAmY7PhCfg=="]),
            text(&["1B2M2Y8AsgTpgAmY7PhCfh==", "1B2M", &long("A", 25), ""]),
        ),
        "x-amz-checksum-sha256" => {
            (text(&[SHA256]), text(&[&SHA256.replace("FU=", "FV="), &SHA256[1..], ""]))
        }
        "Content-Digest" => (
            vec![format!("sha-256=:{SHA256}:")],
            vec![format!("sha-256=:{}:", &SHA256[1..]), "sha-256=::".to_owned()],
        ),
        "If-Match" => (text(&["*", "\"a\"", "W/\"a\", \"b\""]), vec![]),
        "If-None-Match" => (text(&["*", "\"a\"", "W/\"a\", \"b\""]), vec![]),
        "Range" => (text(&["bytes=0-0", "bytes=5-", "bytes=-1"]), vec![]),
        "If-Range" => (text(&["\"a\"", DATE]), vec![]),
        "If-Modified-Since" => (text(&[DATE]), vec![]),
        "Content-Encoding" => {
            (text(&["gzip", "x-gzip", "zstd", "identity"]), text(&["br", "deflate", "gzip, gzip"]))
        }
        other => panic!("no values for {other}: describe it, and give some on both sides"),
    };
    Sides { taken, refused }
}

fn file_keys() -> (Vec<String>, Vec<String>) {
    let whole = |length: usize| {
        let segments: Vec<_> = ["k".repeat(254).as_str(); 4].map(str::to_owned).to_vec();
        segments.join("/")[..length].to_owned()
    };
    let taken = vec![
        "k".to_owned(),
        "a/b c/ä.txt".to_owned(),
        "...".to_owned(),
        "k".repeat(255),
        "ä".repeat(63),
        whole(1_018),
    ];
    let refused = [".", "..", "a/../b", "a//b", "a/", "a\\b", "a\u{1}", "a/.", "a/.inlet/b"]
        .map(str::to_owned);
    let refused = [&refused[..], &["k".repeat(256), whole(1_018) + "k"]].concat();
    (taken, refused)
}

/// Returns true if the description calls the value valid.
fn fits(schema: &Value, value: &str) -> bool {
    if schema["type"] == "integer" {
        let Ok(number) = value.parse::<f64>() else { return false };
        return schema["minimum"].as_f64().is_none_or(|least| number >= least)
            && schema["maximum"].as_f64().is_none_or(|most| number <= most);
    }
    let length = value.chars().count() as u64;
    schema["enum"].as_array().is_none_or(|values| values.iter().any(|known| known == value))
        && schema["minLength"].as_u64().is_none_or(|least| length >= least)
        && schema["maxLength"].as_u64().is_none_or(|most| length <= most)
        && schema["pattern"]
            .as_str()
            .is_none_or(|pattern| Regex::new(pattern).unwrap().is_match(value).unwrap())
}

/// Asks with this one parameter, and otherwise as the route wants it.
async fn ask_with(
    server: &Harness,
    method: &str,
    path: &str,
    place: &str,
    name: &str,
    value: &str,
) -> Answer {
    let in_path = |name: &str, value: &str| {
        let value = if name == "key" { value.to_owned() } else { percent(value) };
        let encoded: String = match name {
            "key" => value.split('/').map(percent).collect::<Vec<_>>().join("/"),
            _ => value,
        };
        path.replace(&format!("{{{name}}}"), &encoded)
    };
    let mut target = match place {
        "path" => in_path(name, value),
        _ => path
            .replace("{name}", "nobody")
            .replace("{id}", ID)
            .replace("{week}", "2026-W10")
            .replace("{key}", "file"),
    };
    let mut query = Vec::new();
    if place == "query" {
        query.push(format!("{name}={}", percent(value)));
    }
    match (method, path, name) {
        (_, _, "partNumber") => query.push("uploadId=u".to_owned()),
        ("put", _, "uploadId") => query.push("partNumber=1".to_owned()),
        ("post", "/api/files/{key}", name) if !name.starts_with("upload") => {
            query.push("uploads".to_owned());
        }
        _ => {}
    }
    if !query.is_empty() {
        target = format!("{target}?{}", query.join("&"));
    }
    let is_file = path == "/api/files/{key}";
    let mut headers = vec![("X-Auth-Token", ALL)];
    if name != "Content-Type" {
        headers.push(("Content-Type", "application/json"));
    }
    if place == "header" {
        headers.push((name, value));
    }
    let body: &[u8] = match method {
        "post" if path == "/api/save/batch" => &encoded(name, value, b"[1,2]"),
        "post" if path == "/api/save" => &encoded(name, value, b"1"),
        "post" if !is_file => b"{\"where\":\"\"}",
        _ => b"",
    };
    ask(server.address, &method.to_uppercase(), &target, &headers, body).await
}

/// The body in the encoding that is asked for.
fn encoded(name: &str, value: &str, body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    match value {
        "gzip" | "x-gzip" if name == "Content-Encoding" => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(body).unwrap();
            gzip.finish().unwrap()
        }
        // One raw block of a Zstandard frame (RFC 8878): magic, descriptor, size, header.
        "zstd" if name == "Content-Encoding" => {
            let size = u8::try_from(body.len()).unwrap();
            [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, size, (size << 3) | 1, 0, 0], body].concat()
        }
        _ => body.to_vec(),
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn every_parameter_is_taken_and_refused_as_its_description_says() {
    let server = Harness::start().await;
    let description = ask(server.address, "GET", "/openapi.json", &[], b"").await.json();
    let mut seen = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for parameter in operation["parameters"].as_array().unwrap() {
                let name = parameter["name"].as_str().unwrap();
                let place = parameter["in"].as_str().unwrap();
                let schema = &parameter["schema"];
                let case = format!("{method} {path}: {name}");
                assert!(schema["type"].is_string(), "{case} has no type");
                let has_rule =
                    ["pattern", "enum", "minimum"].iter().any(|rule| schema.get(rule).is_some());
                assert!(has_rule, "{case} has no rule: {schema}");
                for example in schema["examples"].as_array().into_iter().flatten() {
                    let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
                    assert!(fits(schema, &text), "{case}: its own example {text}");
                }
                seen.insert(name.to_owned());
                let form = match path.as_str() {
                    "/api/files" => "FILES",
                    "/api/documents" => "DOCUMENTS",
                    _ => method,
                };
                let Sides { taken, refused } = sides(name, form);
                for value in taken {
                    assert!(fits(schema, &value), "{case}: {value:?} is not described");
                    // Too long for the items of a batch, and no fault of its own form.
                    if name == "Idempotency-Key" && value.len() > 253 && path.ends_with("batch") {
                        continue;
                    }
                    let answer = ask_with(&server, method, path, place, name, &value).await;
                    let is_refused = matches!(answer.status, 400 | 413 | 414 | 415 | 431);
                    assert!(!is_refused, "{case}: {value:?} {} {}", answer.status, answer.text());
                }
                for value in refused {
                    assert!(!fits(schema, &value), "{case}: {value:?} is described");
                    let answer = ask_with(&server, method, path, place, name, &value).await;
                    // A path with an empty or another segment is another path.
                    let is_refused = matches!(answer.status, 400 | 413 | 415)
                        || (place == "path" && matches!(answer.status, 404 | 405));
                    assert!(is_refused, "{case}: {value:?} {} {}", answer.status, answer.text());
                }
            }
        }
    }
    assert_eq!(seen.len(), 27, "{seen:?}");
}

#[tokio::test]
async fn bodies_are_taken_and_refused_as_their_description_says() {
    let server = Harness::start().await;
    let description = ask(server.address, "GET", "/openapi.json", &[], b"").await.json();
    let schema = |path: &str, form: &str| {
        description["paths"][path]["post"]["requestBody"]["content"][form]["schema"].clone()
    };
    let post = async |path: &str, form: &str, body: String| {
        let headers = [("X-Auth-Token", ALL), ("Content-Type", form)];
        ask(server.address, "POST", path, &headers, body.as_bytes()).await
    };
    let (json, lines) = ("application/json", "application/x-ndjson");
    let batch = "/api/save/batch";
    let most = schema(batch, json)["maxItems"].as_u64().unwrap();
    assert_eq!(schema(batch, json)["minItems"], 1);
    for (count, status) in [(1, 202), (most, 202), (most + 1, 413), (0, 400)] {
        let body = format!("[{}]", vec!["1"; usize::try_from(count).unwrap()].join(","));
        assert_eq!(post(batch, json, body).await.status, status, "{count}");
    }
    let most = schema(batch, lines)["maxLength"].as_u64().unwrap();
    for (length, status) in [(1, 202), (most, 202), (most + 1, 413), (0, 400)] {
        let body = " ".repeat(usize::try_from(length).unwrap());
        let body = if length > 0 { format!("1{}", &body[1..]) } else { body };
        // Beyond the largest document the one line is refused, and not the batch.
        let answer = post(batch, lines, body.replacen(&" ".repeat(1 << 20), "\n1", 16)).await;
        assert!(answer.status == status || length >= most, "{length} {}", answer.status);
    }
    let redrive = "/api/dead-letters/redrive";
    let described = schema(redrive, json);
    assert_eq!(
        (&described["required"][0], &described["additionalProperties"]),
        (&"where".into(), &false.into())
    );
    for (body, status) in [
        ("{\"where\":\"\"}", 200),
        ("{\"where\":\"cause=refused\",\"dry_run\":true}", 200),
        ("{\"where\":\"colour=red\"}", 400),
        ("{\"where\":1}", 400),
        ("{\"dry_run\":true}", 400),
        ("{\"where\":\"\",\"more\":1}", 400),
    ] {
        assert_eq!(post(redrive, json, body.to_owned()).await.status, status, "{body}");
    }
    let begun = post("/api/files/f?uploads", json, String::new()).await.json();
    let upload = format!("/api/files/f?uploadId={}", begun["uploadId"].as_str().unwrap());
    let most =
        schema("/api/files/{key}", json)["properties"]["parts"]["maxItems"].as_u64().unwrap();
    assert_eq!(most, 10_000);
    for (body, code) in [
        // Of the right form, and none of them was put.
        ("{\"parts\":[2,1]}", "PartMissing"),
        ("{\"parts\":[10000]}", "PartMissing"),
        ("{\"parts\":[10001]}", "ParameterInvalid"),
        ("{\"parts\":[0]}", "ParameterInvalid"),
        ("{\"parts\":[]}", "ParameterInvalid"),
        ("{\"parts\":[1,1]}", "ParameterInvalid"),
        ("{\"more\":1}", "ParameterInvalid"),
    ] {
        assert_eq!(post(&upload, json, body.to_owned()).await.code(), code, "{body}");
    }
}

#[tokio::test]
async fn every_class_and_code_that_is_answered_is_described() {
    let server = Harness::start().await;
    let description = ask(server.address, "GET", "/openapi.json", &[], b"").await.json();
    let problem = &description["components"]["schemas"]["Problem"]["properties"];
    let listed = |member: &str, value: &str| {
        problem[member]["enum"].as_array().unwrap().iter().any(|known| known == value)
    };
    for class in ["BadRequest", "Unauthorized", "Forbidden", "NotFound", "Conflict"] {
        assert!(listed("errorType", class), "{class}");
    }
    for class in ["TooManyRequests", "ServiceUnavailable", "BadGateway", "GatewayTimeout"] {
        assert!(listed("errorType", class), "{class}");
    }
    for code in ["TokenUnknown", "BatchRefused", "StreamQuota", "Full", "InstanceFailed"] {
        assert!(listed("code", code), "{code}");
    }
}
