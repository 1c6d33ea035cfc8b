//! Files: streamed in and out, in ranges, in parts, under conditions.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use inlet_core::document::hex;
use inlet_core::limits::Limits;
use inlet_core::ports::Bucket;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::client::{Answer, Connection, ask, request};
use crate::harness::{ADMIN, ALL, Harness, READ, SAVE, Setup};

const PATIENCE: Duration = Duration::from_secs(10);
const KEY: &str = "/api/files/reports/2026/a%20b.pdf";

async fn put(server: &Harness, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let headers = [&[("X-Auth-Token", SAVE)], headers].concat();
    ask(server.address, "PUT", target, &headers, body).await
}

/// Puts with a token that may replace what is there.
async fn replace(server: &Harness, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let headers = [&[("X-Auth-Token", ALL)], headers].concat();
    ask(server.address, "PUT", target, &headers, body).await
}

async fn get(server: &Harness, target: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[("X-Auth-Token", READ)], headers].concat();
    ask(server.address, "GET", target, &headers, b"").await
}

/// How many objects the bucket has.
async fn count(server: &Harness) -> usize {
    server.bucket.list("", None, 100).await.unwrap().len()
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_put() {
    let server = Harness::start().await;
    let body = [0, 159, 146, 150, 13, 10];
    let made = put(&server, KEY, &[("Content-Type", "application/pdf")], &body).await;
    assert_eq!((made.status, made.header("location")), (201, Some(KEY)), "{}", made.text());
    let json = made.json();
    assert_eq!((&json["key"], &json["bytes"]), (&"reports/2026/a b.pdf".into(), &6.into()));

    let answer = get(&server, KEY, &[]).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &body[..]));
    assert_eq!(answer.header("content-type"), Some("application/pdf"));
    assert_eq!(answer.header("content-length"), Some("6"));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    let digest = Sha256::digest(body);
    let repr = format!("sha-256=:{}:", STANDARD.encode(digest));
    assert_eq!(answer.header("repr-digest"), Some(repr.as_str()));
    // A page among the files must not run as if it were ours.
    assert_eq!(answer.header("content-disposition"), Some("attachment"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(answer.header("content-security-policy").unwrap().contains("sandbox"));

    let token = [("X-Auth-Token", READ)];
    let head = ask(server.address, "HEAD", KEY, &token, b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("6")));
    assert_eq!(head.header("etag"), answer.header("etag"));
    assert_eq!(get(&server, "/api/files/reports/2026", &[]).await.code(), "NotFound");
}

#[tokio::test]
async fn an_empty_file_and_one_in_chunks_are_files() {
    let server = Harness::start().await;
    assert_eq!(put(&server, "/api/files/empty", &[], b"").await.status, 201);
    let empty = get(&server, "/api/files/empty", &[]).await;
    assert_eq!(
        (empty.status, empty.header("content-length"), empty.body.len()),
        (200, Some("0"), 0)
    );
    assert_eq!(empty.header("content-type"), Some("application/octet-stream"));
    let mut chunked = Connection::open(server.address).await;
    let head = format!(
        "PUT /api/files/chunked HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {SAVE}\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    );
    chunked.send(head).await;
    assert_eq!(chunked.answer().await.unwrap().json()["bytes"], 11);
    assert_eq!(get(&server, "/api/files/chunked", &[]).await.text(), "hello world");
}

#[tokio::test]
async fn ranges_and_conditions_give_what_is_wanted() {
    let server = Harness::start().await;
    let path = "/api/files/ten";
    put(&server, path, &[], b"0123456789").await;
    let whole = get(&server, path, &[]).await;
    let (tag, date) = (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
    for (range, body, given) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=0-99", "0123456789", "bytes 0-9/10"),
    ] {
        let answer = get(&server, path, &[("Range", range)]).await;
        assert_eq!((answer.status, answer.text()), (206, body), "{range}");
        assert_eq!(answer.header("content-range"), Some(given));
        let headers = [("X-Auth-Token", READ), ("Range", range)];
        let head = ask(server.address, "HEAD", path, &headers, b"").await;
        assert_eq!((head.status, head.header("content-range")), (206, Some(given)));
        let length = body.len().to_string();
        assert_eq!(head.header("content-length"), Some(length.as_str()));
    }
    let beyond = get(&server, path, &[("Range", "bytes=10-")]).await;
    assert_eq!((beyond.status, beyond.code().as_str()), (416, "RangeInvalid"));
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));

    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (headers, status) in [
        (vec![("If-None-Match", tag)], 304),
        (vec![("If-None-Match", "*")], 304),
        (vec![("If-None-Match", "\"other\"")], 200),
        (vec![("If-Modified-Since", date)], 304),
        (vec![("If-Modified-Since", past)], 200),
        (vec![("If-None-Match", "\"other\""), ("If-Modified-Since", date)], 200),
        (vec![("Range", "bytes=1-2"), ("If-Range", tag)], 206),
        (vec![("Range", "bytes=1-2"), ("If-Range", "\"other\"")], 200),
        (vec![("Range", "bytes=1-2"), ("If-Range", date)], 206),
        (vec![("Range", "bytes=1-2"), ("If-None-Match", tag)], 304),
        (vec![("Range", "bytes=1-2"), ("If-Match", "\"other\"")], 412),
        (vec![("Range", "bytes=1-2"), ("If-Unmodified-Since", past)], 412),
    ] {
        assert_eq!(get(&server, path, &headers).await.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn a_file_whose_checksum_does_not_fit_is_not_kept() {
    let server = Harness::start().await;
    let body = b"the body";
    let right = STANDARD.encode(Sha256::digest(body));
    let wrong = STANDARD.encode(Sha256::digest(b"another"));
    let (field, wrong_field) = (format!("sha-256=:{right}:"), format!("sha-256=:{wrong}:"));
    for (header, right, wrong) in [
        ("x-amz-checksum-sha256", right.as_str(), wrong.as_str()),
        ("Content-Digest", &field, &wrong_field),
        ("Repr-Digest", &format!("sha-512=:AAAA:, {field}"), &wrong_field),
        ("Content-MD5", "MGYXYYX8yjXSbBsWEqkeeA==", "jtO6CTgCvGNrmIVhGZvaGQ=="),
    ] {
        assert_eq!(
            replace(&server, "/api/files/right", &[(header, right)], body).await.status,
            201
        );
        let answer = replace(&server, "/api/files/wrong", &[(header, wrong)], body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "ChecksumMismatch"), "{header}");
        let none = replace(&server, "/api/files/wrong", &[(header, "sha-256=:@:")], body).await;
        assert_eq!(none.code(), "ParameterInvalid", "{header}");
    }
    assert_eq!(count(&server).await, 1);
}

#[tokio::test]
async fn a_file_is_put_only_where_its_conditions_hold() {
    let server = Harness::start().await;
    let path = "/api/files/k";
    let only_new = [("If-None-Match", "*")];
    let first = replace(&server, path, &only_new, b"first").await;
    assert_eq!(first.status, 201);
    assert_eq!(replace(&server, path, &only_new, b"second").await.code(), "PreconditionFailed");
    let tag = first.header("etag").unwrap();
    assert_eq!(replace(&server, path, &[("If-Match", tag)], b"second").await.status, 201);
    assert_eq!(replace(&server, path, &[("If-Match", tag)], b"third").await.status, 412);
    assert_eq!(replace(&server, "/api/files/x", &[("If-Match", "*")], b"x").await.status, 412);
    assert_eq!(get(&server, path, &[]).await.text(), "second");

    // It is looked at again once all has come.
    let mut slow = Connection::open(server.address).await;
    let headers = [("X-Auth-Token", ALL), ("If-None-Match", "*")];
    let bytes = request("PUT", "/api/files/slow", &headers, b"slow one");
    slow.send(&bytes[..bytes.len() - 3]).await;
    assert_eq!(put(&server, "/api/files/slow", &[], b"quick").await.status, 201);
    slow.send(&bytes[bytes.len() - 3..]).await;
    assert_eq!(slow.answer().await.unwrap().status, 412);
    assert_eq!(get(&server, "/api/files/slow", &[]).await.text(), "quick");
}

#[tokio::test]
async fn a_client_that_goes_away_or_stalls_leaves_nothing() {
    let setup = Setup::deadlines(|deadlines| deadlines.body_grace = Duration::from_millis(80));
    let server = Harness::start_with(setup).await;
    let bytes = request("PUT", "/api/files/k", &[("X-Auth-Token", SAVE)], &[b'x'; 300_000]);
    let mut gone = Connection::open(server.address).await;
    gone.send(&bytes[..200_000]).await;
    drop(gone);
    let mut stalled = Connection::open(server.address).await;
    stalled.send(&bytes[..200_000]).await;
    let answer = timeout(PATIENCE, stalled.answer()).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "BodyTimeout"));
    assert_eq!(count(&server).await, 0);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_with_and_without_its_length() {
    let limits = Limits { file_bytes_max: 1_000, ..Limits::default() };
    let server = Harness::start_with(Setup { limits, ..Setup::default() }).await;
    assert_eq!(put(&server, "/api/files/k", &[], &[1; 1_000]).await.status, 201);
    let answer = put(&server, "/api/files/large", &[], &[1; 1_001]).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "BodyTooLarge"));
    let mut chunked = Connection::open(server.address).await;
    let mut bytes = format!(
        "PUT /api/files/large HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {SAVE}\r\n\
         Transfer-Encoding: chunked\r\n\r\n3e9\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(&[b'x'; 1_001]);
    bytes.extend_from_slice(b"\r\n0\r\n\r\n");
    chunked.send(bytes).await;
    assert_eq!(chunked.answer().await.unwrap().status, 413);
    assert_eq!(count(&server).await, 1);
}

#[tokio::test]
async fn keys_can_not_leave_the_files() {
    let server = Harness::start().await;
    let long = format!("/api/files/{}", "a/".repeat(600) + "a");
    for path in [
        "/api/files/../summaries/2026-W47.json",
        "/api/files/%2e%2e/summaries/2026-W47.json",
        "/api/files/a/%2e%2E%2fb",
        "/api/files/a//b",
        "/api/files/a/",
        "/api/files/a%00b",
        "/api/files/a%5Cb",
        "/api/files/%ff",
        "/api/files/%2",
        long.as_str(),
    ] {
        let answer = put(&server, path, &[], b"x").await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    assert_eq!(count(&server).await, 0);
    put(&server, "/api/files/a%2Fb+c", &[], b"x").await;
    assert_eq!(server.bucket.list("", None, 9).await.unwrap()[0].key.as_str(), "files/a/b+c");
}

#[tokio::test]
async fn a_file_is_deleted_by_an_admin_alone() {
    let server = Harness::start().await;
    put(&server, "/api/files/k", &[], b"x").await;
    let delete = async |token| {
        ask(server.address, "DELETE", "/api/files/k", &[("X-Auth-Token", token)], b"").await.status
    };
    assert_eq!(delete(READ).await, 403);
    assert_eq!(delete(SAVE).await, 403);
    assert_eq!(delete(ADMIN).await, 204);
    assert_eq!(delete(ALL).await, 404);
    assert_eq!(count(&server).await, 0);
    let unread = ask(server.address, "GET", "/api/files/k", &[("X-Auth-Token", SAVE)], b"").await;
    assert_eq!(unread.status, 403);
    assert_eq!(ask(server.address, "PUT", "/api/files/k", &[], b"x").await.status, 401);
}

#[tokio::test]
async fn files_are_listed_in_pages() {
    let server = Harness::start().await;
    for key in ["b/2", "a", "b/1", "c", "b/3"] {
        put(&server, &format!("/api/files/{key}"), &[], key.as_bytes()).await;
    }
    let keys = |answer: &Answer| -> Vec<String> {
        let json = answer.json();
        let files = json["files"].as_array().unwrap();
        files.iter().map(|file| file["key"].as_str().unwrap().to_owned()).collect()
    };
    let all = get(&server, "/api/files", &[]).await;
    assert_eq!(keys(&all), ["a", "b/1", "b/2", "b/3", "c"]);
    assert_eq!((&all.json()["more"], &all.json()["next"]), (&false.into(), &"c".into()));
    let page = get(&server, "/api/files?prefix=b%2F&limit=2", &[]).await;
    assert_eq!(
        (keys(&page), &page.json()["more"]),
        (vec!["b/1".into(), "b/2".into()], &true.into())
    );
    let rest = get(&server, "/api/files?prefix=b/&limit=2&cursor=b/2", &[]).await;
    assert_eq!((keys(&rest), &rest.json()["more"]), (vec!["b/3".into()], &false.into()));
}

#[tokio::test]
async fn a_file_is_put_in_parts_and_gone_on_with() {
    let server = Harness::start().await;
    let path = "/api/files/video.mp4";
    let post = async |query: &str, body: &[u8]| {
        let headers = [("X-Auth-Token", SAVE), ("Content-Type", "video/mp4")];
        ask(server.address, "POST", &format!("{path}?{query}"), &headers, body).await
    };
    let begun = post("uploads", b"").await.json();
    let id = begun["uploadId"].as_str().unwrap();
    assert_eq!(begun["partBytesMin"], 5 << 20);
    let part = |n: u32| format!("{path}?uploadId={id}&partNumber={n}");
    let large = vec![7; 5 << 20];
    let checksum = STANDARD.encode(Sha256::digest(&large));
    let checked = [("x-amz-checksum-sha256", checksum.as_str())];
    assert_eq!(put(&server, &part(1), &checked, &large).await.status, 200);
    assert_eq!(put(&server, &part(2), &checked, b"wrong").await.code(), "ChecksumMismatch");
    assert_eq!(put(&server, &part(3), &[], b"end").await.json()["bytes"], 3);

    let listed = get(&server, &format!("{path}?uploadId={id}"), &[]).await.json();
    let numbers: Vec<_> =
        listed["parts"].as_array().unwrap().iter().map(|p| &p["partNumber"]).collect();
    assert_eq!(numbers, [1, 3]);
    assert_eq!(get(&server, path, &[]).await.status, 404, "it is no file yet");

    let finish = format!("uploadId={id}");
    assert_eq!(post(&finish, br#"{"parts":[1,2,3]}"#).await.code(), "PartMissing");
    assert_eq!(post(&finish, br#"{"parts":[3,1,3]}"#).await.code(), "ParameterInvalid");
    assert_eq!(post(&finish, br#"{"parts":[]}"#).await.code(), "ParameterInvalid");
    assert_eq!(put(&server, &part(2), &[], b"small").await.status, 200);
    assert_eq!(post(&finish, b"").await.code(), "PartTooSmall");
    // Numbers say where a part stands, in whatever order they are named.
    let made = post(&finish, br#"{"parts":[3,1]}"#).await;
    assert_eq!((made.status, &made.json()["bytes"]), (201, &((5 << 20) + 3).into()));
    let answer = get(&server, path, &[("Range", "bytes=-4")]).await;
    assert_eq!(answer.body, b"\x07end");
    assert_eq!(answer.header("content-type"), Some("video/mp4"));
    // As `sha256sum` has it, also of a part of the file.
    let digest = Sha256::new().chain_update(&large).chain_update(b"end").finalize();
    let repr = format!("sha-256=:{}:", STANDARD.encode(digest));
    assert_eq!(answer.header("repr-digest"), Some(repr.as_str()));
    assert_eq!(made.json()["sha256"], hex(&digest));
    assert_eq!(get(&server, path, &[]).await.header("repr-digest"), Some(repr.as_str()));
    assert_eq!(post(&finish, b"").await.code(), "UploadUnknown");
    assert_eq!(put(&server, &part(1), &[], b"x").await.code(), "UploadUnknown");
}

#[tokio::test]
async fn an_upload_is_abandoned_and_what_is_no_upload_is_told() {
    let server = Harness::start().await;
    let headers = [("X-Auth-Token", SAVE)];
    let begun = ask(server.address, "POST", "/api/files/k?uploads", &headers, b"").await.json();
    let id = begun["uploadId"].as_str().unwrap();
    put(&server, &format!("/api/files/k?uploadId={id}&partNumber=1"), &[], b"x").await;
    let other = format!("/api/files/other?uploadId={id}&partNumber=1");
    assert_eq!(put(&server, &other, &[], b"x").await.code(), "UploadUnknown");
    for query in
        ["partNumber=1", "uploadId=1", "uploadId=1&partNumber=0", "uploadId=1&partNumber=x"]
    {
        let answer = put(&server, &format!("/api/files/k?{query}"), &[], b"x").await;
        assert_eq!(answer.code(), "ParameterInvalid", "{query}");
    }
    let mut chunked = Connection::open(server.address).await;
    let head = format!(
        "PUT /api/files/k?uploadId={id}&partNumber=1 HTTP/1.1\r\nHost: a\r\n\
         X-Auth-Token: {SAVE}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    );
    chunked.send(head).await;
    assert_eq!(chunked.answer().await.unwrap().status, 411);
    let path = format!("/api/files/k?uploadId={id}");
    let gone = ask(server.address, "DELETE", &path, &headers, b"").await;
    assert_eq!(gone.status, 204);
    assert!(server.bucket.open_uploads().is_empty());
    for query in ["", "?uploads&uploadId=1"] {
        let path = format!("/api/files/k{query}");
        let answer = ask(server.address, "POST", &path, &headers, b"").await;
        assert_eq!(answer.code(), "ParameterInvalid");
    }
}

#[tokio::test]
async fn a_function_gives_a_file_by_ranges() {
    use bytes::Bytes;
    let server = Harness::start().await;
    put(&server, "/api/files/large", &[], &vec![b'x'; 5 << 20]).await;
    let ask = async |range: Option<&str>| {
        let mut request = http::Request::get("/api/files/large").header("x-auth-token", READ);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        server.app.answer_whole(request.body(Bytes::new()).unwrap()).await
    };
    let whole = ask(None).await;
    assert_eq!(whole.status(), 400);
    assert!(whole.body().windows(5).any(|bytes| bytes == b"Range"));
    let some = ask(Some("bytes=0-1048575")).await;
    assert_eq!((some.status().as_u16(), some.body().len()), (206, 1 << 20));
}
