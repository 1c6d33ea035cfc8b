//! `POST /api/save` and `/api/save/batch`: what is taken, and what each bad request is told.

use std::sync::Arc;

use inlet_core::limits::Limits;
use inlet_core::ports::{PageQuery, Store};
use inlet_testkit::memory::MemoryQueue;

use crate::client::{Connection, ask, json_headers, request};
use crate::harness::{ALL, Harness, READ, SAVE, Setup};

#[tokio::test]
async fn a_document_is_accepted_and_its_receipt_has_four_members() {
    let server = Harness::start().await;
    let body = b"{\"order\": 1,\n \"note\": \"\xc3\xa4\\\"\"}";
    let answer = ask(server.address, "POST", "/api/save", &json_headers(SAVE), body).await;
    assert_eq!(answer.status, 202);
    let json = answer.json();
    assert_eq!(json["body"].as_str().unwrap().as_bytes(), body);
    let id = json["MessageId"].as_str().unwrap();
    assert_eq!(answer.header("location"), Some(format!("/api/receipts/{id}").as_str()));
    let request_id = json["ResponseMetadata"]["RequestId"].as_str();
    assert_eq!(answer.header("x-request-id"), request_id);
    assert_eq!(answer.header("x-instance-id"), Some("test-1"));
    assert_eq!(json.as_object().unwrap().len(), 4);
    assert_eq!(server.queue.len(), 1);
}

#[tokio::test]
async fn a_token_is_taken_from_either_header() {
    let server = Harness::start().await;
    let places = [
        ("X-Auth-Token", SAVE),
        ("Authorization", "bearer save-token"),
        // webhook:save-token
        ("Authorization", "Basic d2ViaG9vazpzYXZlLXRva2Vu"),
    ];
    for (name, value) in places {
        let headers = [(name, value), ("Content-Type", "application/json")];
        let answer = ask(server.address, "POST", "/api/save", &headers, b"1").await;
        assert_eq!(answer.status, 202, "{name}: {value}");
    }
    let in_query = format!("/api/save?token={SAVE}");
    let headers = [("Content-Type", "application/json")];
    assert_eq!(ask(server.address, "POST", &in_query, &headers, b"1").await.status, 401);
}

#[tokio::test]
async fn two_tokens_that_differ_are_refused_wherever_they_stand() {
    let server = Harness::start().await;
    let json = ("Content-Type", "application/json");
    let (good, other) = (("X-Auth-Token", SAVE), ("X-Auth-Token", ALL));
    let bearer = ("Authorization", "Bearer all-token");
    let basic = ("Authorization", "Basic d2ViaG9vazphbGwtdG9rZW4=");
    for pair in [[good, other], [other, good], [good, bearer], [basic, good]] {
        let headers = [pair[0], pair[1], json];
        let answer = ask(server.address, "POST", "/api/save", &headers, b"1").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "TokenAmbiguous"), "{pair:?}");
    }
    for pair in [[good, good], [other, bearer], [basic, bearer]] {
        let headers = [pair[0], pair[1], json];
        let answer = ask(server.address, "POST", "/api/save", &headers, b"1").await;
        assert_eq!(answer.status, 202, "{pair:?}");
    }
    assert_eq!(server.queue.len(), 3);
}

#[tokio::test]
async fn who_may_not_is_told_so_before_the_body_is_read() {
    let server = Harness::start().await;
    let table =
        [("", 401, "TokenMissing"), ("wrong", 401, "TokenUnknown"), (READ, 403, "ScopeMissing")];
    for (token, status, code) in table {
        let mut connection = Connection::open(server.address).await;
        let whole = request("POST", "/api/save", &json_headers(token), &[b' '; 100]);
        connection.send(&whole[..whole.len() - 100]).await;
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{token}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
        assert!(connection.is_closed().await, "the body is not waited for");
    }
}

#[tokio::test]
async fn a_problem_has_the_members_of_the_rfc_and_the_three_others() {
    let server = Harness::start().await;
    let headers = [("X-Auth-Token", SAVE), ("Content-Type", "text/plain"), ("X-Request-Id", "r-1")];
    let answer = ask(server.address, "POST", "/api/save?stream=a", &headers, b"1").await;
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("x-request-id"), Some("r-1"));
    let json = answer.json();
    assert_eq!(json["type"], "/docs#MediaTypeUnsupported");
    assert_eq!(json["title"], "The content type is not taken");
    assert_eq!((json["status"].as_u64(), json["httpStatus"].as_u64()), (Some(415), Some(415)));
    assert_eq!(json["code"], "MediaTypeUnsupported");
    assert_eq!(
        (json["instance"].as_str(), json["requestId"].as_str()),
        (Some("/api/save"), Some("r-1"))
    );
    assert!(json["detail"].as_str().unwrap().contains("application/json"));
}

/// Target, headers, body; then status and code.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

#[tokio::test]
async fn each_bad_request_gets_its_answer() {
    let server = Harness::start().await;
    let nested = "[".repeat(10_000);
    let table: &[Case<'_>] = &[
        ("/api/save", &[], b"", 400, "BodyEmpty"),
        ("/api/save", &[], b"{\"a\":", 400, "JsonInvalid"),
        ("/api/save", &[], b"1 2", 400, "JsonInvalid"),
        ("/api/save", &[], nested.as_bytes(), 400, "JsonInvalid"),
        ("/api/save", &[], b"\"\\ud800\"", 400, "JsonInvalid"),
        ("/api/save", &[], b"NaN", 400, "JsonInvalid"),
        ("/api/save", &[], b"\"a\0b\"", 400, "JsonInvalid"),
        ("/api/save?stream=a/b", &[], b"1", 400, "StreamNameInvalid"),
        ("/api/save?stream=a.b", &[], b"1", 400, "StreamNameInvalid"),
        ("/api/save?stream=a%2fb", &[], b"1", 400, "StreamNameInvalid"),
        ("/api/save?stream=..", &[], b"1", 400, "StreamNameInvalid"),
        ("/api/save?stream=a&stream=b", &[], b"1", 400, "ParameterInvalid"),
        ("/api/save?streem=a", &[], b"1", 400, "ParameterInvalid"),
        ("/api/save", &[("Idempotency-Key", "")], b"1", 400, "KeyInvalid"),
        ("/api/save", &[("Idempotency-Key", "\u{e4}")], b"1", 400, "KeyInvalid"),
        ("/api/save", &[("Content-Encoding", "br")], b"1", 415, "EncodingUnsupported"),
        ("/api/save", &[("Content-Encoding", "gzip")], b"1", 400, "EncodingInvalid"),
        ("/api/save/batch", &[], b"[]", 400, "BatchEmpty"),
        ("/api/none", &[], b"1", 404, "NotFound"),
        ("/api/streams", &[], b"1", 405, "MethodNotAllowed"),
    ];
    for (target, headers, body, status, code) in table {
        let headers = [&json_headers(SAVE), *headers].concat();
        let answer = ask(server.address, "POST", target, &headers, body).await;
        let case = String::from_utf8_lossy(&body[..body.len().min(40)]);
        assert_eq!((answer.status, answer.code().as_str()), (*status, *code), "{target} {case}");
    }
    assert!(server.queue.is_empty());
}

#[tokio::test]
async fn a_fault_in_json_is_told_by_line_and_column() {
    let server = Harness::start().await;
    let body = b"{\n  \"a\": 1,\n  \"a\": 2\n}";
    let answer = ask(server.address, "POST", "/api/save", &json_headers(SAVE), body).await;
    let json = answer.json();
    assert_eq!((json["line"].as_u64(), json["column"].as_u64()), (Some(3), Some(3)), "{json}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_at_once_or_in_mid_stream() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
    let server = Harness::start_with(Setup { limits, ..Setup::default() }).await;
    let headers = json_headers(SAVE);
    // Announced: told before a byte of it is sent.
    let mut connection = Connection::open(server.address).await;
    let head = format!(
        "POST /api/save HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {SAVE}\r\n\
         Content-Type: application/json\r\n"
    );
    connection.send(format!("{head}Content-Length: 1073741824\r\n\r\n")).await;
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.status, answer.json()["limit"].as_u64()), (413, Some(1000)));
    // Announced and sent: what is sent is read and dropped for a while, and the answer arrives.
    let mut connection = Connection::open(server.address).await;
    connection.send(request("POST", "/api/save", &headers, &vec![b' '; 2 << 20])).await;
    assert_eq!(connection.answer().await.unwrap().status, 413);
    // Chunked: cut off where the limit is passed.
    let mut connection = Connection::open(server.address).await;
    connection.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
    let chunk = format!("1f4\r\n{}\r\n", " ".repeat(500));
    for _ in 0..3 {
        connection.send(&chunk).await;
    }
    assert_eq!(connection.answer().await.unwrap().code(), "BodyTooLarge");
    assert!(server.queue.is_empty());
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on_or_not() {
    let server = Harness::start().await;
    let expecting = |token| {
        [("X-Auth-Token", token), ("Content-Type", "application/json"), ("Expect", "100-continue")]
    };
    let mut connection = Connection::open(server.address).await;
    let save = request("POST", "/api/save", &expecting(SAVE), b"{\"a\":1}");
    connection.send(&save[..save.len() - 7]).await;
    assert_eq!(connection.answer().await.unwrap().status, 100);
    connection.send(b"{\"a\":1}").await;
    assert_eq!(connection.answer().await.unwrap().status, 202);

    let mut connection = Connection::open(server.address).await;
    let save = request("POST", "/api/save", &expecting("wrong"), b"{\"a\":1}");
    connection.send(&save[..save.len() - 7]).await;
    assert_eq!(connection.answer().await.unwrap().status, 401);
}

#[tokio::test]
async fn a_queue_that_is_full_answers_503_and_when_to_try_again() {
    let queue = Arc::new(MemoryQueue::new(100));
    let server = Harness::start_with(Setup { queue: Some(queue), ..Setup::default() }).await;
    let body = b"\"sixty bytes or so, so that the second one finds no more room\"";
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let answer = ask(server.address, "POST", "/api/save", &json_headers(SAVE), body).await;
        statuses.push(answer.status);
        if answer.status == 503 {
            assert_eq!(answer.code(), "Full");
            assert!(answer.header("retry-after").is_some());
        }
    }
    assert_eq!(statuses[0], 202);
    assert_eq!(statuses[2], 503);
}

#[tokio::test]
async fn a_key_gives_the_same_receipt_again_and_a_conflict_with_another_body() {
    let server = Harness::start().await;
    let headers = [&json_headers(SAVE)[..], &[("Idempotency-Key", "order-1")]].concat();
    let first = ask(server.address, "POST", "/api/save", &headers, b"1").await;
    let again = ask(server.address, "POST", "/api/save", &headers, b"1").await;
    assert_eq!(first.json()["MessageId"], again.json()["MessageId"]);
    let other = ask(server.address, "POST", "/api/save", &headers, b"2").await;
    assert_eq!((other.status, other.code().as_str()), (409, "KeyConflict"));
}

#[tokio::test]
async fn a_batch_has_a_result_an_item_and_one_bad_line_refuses_only_itself() {
    let server = Harness::start().await;
    let headers = [("X-Auth-Token", SAVE), ("Content-Type", "application/x-ndjson")];
    let body = b"{\"n\":1}\n{\"n\":\n{\"n\":3}\r\n";
    let answer = ask(server.address, "POST", "/api/save/batch?stream=s", &headers, body).await;
    assert_eq!(answer.status, 207);
    let json = answer.json();
    let results = json["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert!(results[0]["MessageId"].is_string() && results[2]["MessageId"].is_string());
    assert_eq!(
        (results[1]["code"].as_str(), results[1]["index"].as_u64()),
        (Some("JsonInvalid"), Some(1))
    );
    assert_eq!((json["accepted"].as_u64(), json["refused"].as_u64()), (Some(2), Some(1)));
    assert_eq!(server.queue.len(), 2);

    let headers = json_headers(SAVE);
    let answer = ask(server.address, "POST", "/api/save/batch", &headers, b"[1, {}, \"x\"]").await;
    assert_eq!((answer.status, answer.json()["results"].as_array().unwrap().len()), (202, 3));
}

#[tokio::test]
async fn a_batch_of_which_nothing_was_accepted_is_no_success() {
    let server = Harness::start().await;
    let lines = [("X-Auth-Token", SAVE), ("Content-Type", "application/x-ndjson")];
    let answer = ask(server.address, "POST", "/api/save/batch", &lines, b"{\n{\n").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "BatchRefused"));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let json = answer.json();
    assert_eq!((json["accepted"].as_u64(), json["refused"].as_u64()), (Some(0), Some(2)));
    assert_eq!(json["errorType"], "BadRequest");
    let codes: Vec<_> = json["results"].as_array().unwrap().iter().map(|r| &r["code"]).collect();
    assert_eq!(codes, ["JsonInvalid", "JsonInvalid"]);
    assert!(json["ResponseMetadata"]["RequestId"].is_string());

    // Also where each was refused for its key.
    let keyed = [&lines[..], &[("Idempotency-Key", "b")]].concat();
    let first = ask(server.address, "POST", "/api/save/batch", &keyed, b"1\n2").await;
    assert_eq!(first.status, 202);
    let other = ask(server.address, "POST", "/api/save/batch", &keyed, b"3\n4").await;
    assert_eq!((other.status, &other.json()["results"][1]["code"]), (400, &"KeyConflict".into()));
    let some = ask(server.address, "POST", "/api/save/batch", &keyed, b"1\n4").await;
    assert_eq!(some.status, 207);
    assert_eq!(server.queue.len(), 3);
}

#[tokio::test]
async fn a_repeat_is_told_from_a_first_alone_and_in_a_batch() {
    let server = Harness::start().await;
    let keyed = [&json_headers(SAVE)[..], &[("Idempotency-Key", "k")]].concat();
    for stored in [false, true] {
        let keyed = [&keyed[..2], &[("Idempotency-Key", if stored { "k2" } else { "k" })]].concat();
        let first = ask(server.address, "POST", "/api/save", &keyed, b"1").await;
        assert_eq!(first.header("idempotency-replayed"), None);
        let batch = ask(server.address, "POST", "/api/save/batch", &keyed, b"[1,2]").await;
        assert!(batch.json()["results"][0].get("replayed").is_none());
        // An instance that has seen none of it finds it in the store.
        let other;
        let address = if stored {
            server.persist().await;
            let store = Some(Arc::clone(&server.app.store));
            other = Harness::start_with(Setup { store, ..Setup::default() }).await;
            other.address
        } else {
            server.address
        };
        let again = ask(address, "POST", "/api/save", &keyed, b"1").await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{stored}");
        assert_eq!(first.json()["MessageId"], again.json()["MessageId"]);
        let again = ask(address, "POST", "/api/save/batch", &keyed, b"[1,2,3]").await;
        let replayed: Vec<_> = again.json()["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["replayed"] == true)
            .collect();
        assert_eq!((again.status, replayed), (202, vec![true, true, false]), "{stored}");
    }
}

#[tokio::test]
async fn a_limit_on_streams_says_when_to_try_again_and_a_place_is_free_after_an_erasure() {
    let limits = Limits { streams_max: 2, ..Limits::default() };
    let server = Harness::start_with(Setup { limits, ..Setup::default() }).await;
    let save = async |stream: &str, token: &'static str| {
        let target = format!("/api/save?stream={stream}");
        ask(server.address, "POST", &target, &json_headers(token), b"1").await
    };
    let first = save("s1", SAVE).await;
    assert_eq!((first.status, save("s2", SAVE).await.status), (202, 202));
    let refused = save("s3", SAVE).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "StreamQuota"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json()["errorType"], "TooManyRequests");
    for (stream, token) in [("default", SAVE), ("s1", SAVE), ("s3", ALL), ("s3", SAVE)] {
        assert_eq!(save(stream, token).await.status, 202, "{stream}");
    }
    server.persist().await;
    assert_eq!(save("s4", SAVE).await.status, 429);
    let id = first.json()["MessageId"].as_str().unwrap().to_owned();
    for id in [id.as_str(), &server.only_other_in("s1", &id).await] {
        let path = format!("/api/documents/{id}");
        let erased = ask(server.address, "DELETE", &path, &json_headers(ALL), b"").await;
        assert_eq!(erased.status, 204);
    }
    assert_eq!(save("s4", SAVE).await.status, 202);
}

#[tokio::test]
async fn a_body_in_a_character_set_whose_bytes_are_utf_8_is_taken() {
    let server = Harness::start().await;
    let table: &[(&str, &[u8], u16)] = &[
        ("application/json; charset=utf8", "\"ä\"".as_bytes(), 202),
        ("application/json; charset=UTF8", b"1", 202),
        ("application/json; charset=us-ascii", b"1", 202),
        ("application/json; charset=\"utf-8\"", b"1", 202),
        ("application/json; charset=iso-8859-1", b"1", 202),
        ("application/json; charset=iso-8859-1", "\"ä\"".as_bytes(), 415),
        ("application/json; charset=utf-16", b"1", 415),
    ];
    for (content_type, body, status) in table {
        let headers = [("X-Auth-Token", SAVE), ("Content-Type", content_type)];
        let answer = ask(server.address, "POST", "/api/save", &headers, body).await;
        assert_eq!(answer.status, *status, "{content_type}");
    }
}

#[tokio::test]
async fn two_keys_or_one_that_is_no_ascii_are_refused_and_not_taken_for_none() {
    let server = Harness::start().await;
    let key = |value| ("Idempotency-Key", value);
    for keys in [
        vec![key("")],
        vec![key(" ")],
        vec![key("\u{e4}")],
        vec![key("a"), key("b")],
        vec![key("a"), key("a")],
    ] {
        let headers = [&json_headers(SAVE)[..], &keys].concat();
        for path in ["/api/save", "/api/save/batch"] {
            let answer = ask(server.address, "POST", path, &headers, b"[1]").await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "KeyInvalid"), "{keys:?}");
        }
    }
    assert!(server.queue.is_empty());
}

#[tokio::test]
async fn each_document_of_a_keyed_batch_has_its_own_key_as_if_it_had_been_sent_alone() {
    let server = Harness::start().await;
    let keyed = [("X-Auth-Token", SAVE), ("Content-Type", "application/vnd.inlet.keyed+ndjson")];
    let send = async |lines: &str| {
        ask(server.address, "POST", "/api/save/batch", &keyed, lines.as_bytes()).await
    };
    let one =
        [("X-Auth-Token", SAVE), ("Content-Type", "application/json"), ("Idempotency-Key", "a")];
    let alone = ask(server.address, "POST", "/api/save", &one, b"{\"n\": 1}").await;
    let lines = "{\"key\":\"b\",\"document\":[2]}\n{\"key\":\"a\",\"document\":{\"n\": 1}}\n";
    let first = send(lines).await;
    assert_eq!(first.status, 202, "{}", first.text());
    let first = first.json();
    assert_eq!(first["results"][1]["MessageId"], alone.json()["MessageId"]);
    assert_eq!(first["results"][0].get("replayed"), None);
    assert_eq!(first["results"][1]["replayed"], true);
    // In another order and with more, each is still itself.
    let more = "{\"key\":\"c\",\"document\":3}\n".to_owned() + lines;
    let second = send(&more).await.json();
    assert_eq!(second["results"][1]["MessageId"], first["results"][0]["MessageId"]);
    assert_eq!(second["results"][1]["replayed"], true);
    server.persist().await;
    assert_eq!(
        server
            .store
            .page(&PageQuery { limit: 9, ..PageQuery::default() })
            .await
            .unwrap()
            .items
            .len(),
        3
    );

    let mixed =
        send("{\"key\":\"d\"}\n{\"key\":\"a\",\"document\":9}\n{\"key\":\"e\",\"document\":4}\n")
            .await;
    assert_eq!(mixed.status, 207);
    let codes: Vec<_> = mixed.json()["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["code"].as_str().unwrap_or("accepted").to_owned())
        .collect();
    assert_eq!(codes, ["ParameterInvalid", "KeyConflict", "accepted"]);
    let both = [&keyed[..], &[("Idempotency-Key", "k")]].concat();
    let refused = ask(server.address, "POST", "/api/save/batch", &both, lines.as_bytes()).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "ParameterInvalid"));
    // One document is no batch.
    let refused = ask(server.address, "POST", "/api/save", &keyed, lines.as_bytes()).await;
    assert_eq!(refused.status, 415);
}
