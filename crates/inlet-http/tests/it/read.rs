//! What is read back: receipts, documents, streams, dead letters, summaries.

use inlet_core::calendar::{Calendar, Week};
use inlet_core::document::{Document, IdempotencyKey, StreamName};
use inlet_core::summary::summarize_week;

use crate::client::{Answer, ask, json_headers};
use crate::harness::{ALL, Harness, READ, SAVE};

async fn save(server: &Harness, target: &str, body: &str) -> String {
    let answer = ask(server.address, "POST", target, &json_headers(SAVE), body.as_bytes()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["MessageId"].as_str().unwrap().to_owned()
}

async fn get(server: &Harness, target: &str) -> Answer {
    ask(server.address, "GET", target, &[("X-Auth-Token", READ)], b"").await
}

#[tokio::test]
async fn a_receipt_goes_from_queued_to_stored() {
    let server = Harness::start().await;
    let id = save(&server, "/api/save?stream=orders", "{\"a\":1}").await;
    let path = format!("/api/receipts/{id}");
    assert_eq!(get(&server, &path).await.json()["state"], "queued");
    server.persist().await;
    let json = get(&server, &path).await.json();
    assert_eq!((json["state"].as_str(), json["stream"].as_str()), (Some("stored"), Some("orders")));
    assert_eq!(json["bytes"], 7);
    assert_eq!(json["md5"], "bb6cb5c68df4652941caf652a366f2d8");
    assert_eq!((json["conflicts"].as_u64(), json["dead_letters"].is_null()), (Some(0), true));
    let unknown = get(&server, "/api/receipts/0190a0b0-0000-7000-8000-000000000000").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "NotFound"));
    assert_eq!(get(&server, "/api/receipts/x").await.code(), "IdInvalid");
}

#[tokio::test]
async fn a_document_comes_back_byte_for_byte_with_its_metadata_and_a_tag() {
    let server = Harness::start().await;
    let body = "{ \"n\" : 1.0e2,\t\"\u{e4}\":\"\\u00e4\" }\n";
    let id = save(&server, "/api/save?stream=orders", body).await;
    server.persist().await;
    let path = format!("/api/documents/{id}");
    // The second time it comes from the cache, and is the same.
    for _ in 0..2 {
        let answer = get(&server, &path).await;
        assert_eq!((answer.status, answer.text()), (200, body));
        assert_eq!(answer.header("x-stream"), Some("orders"));
        assert!(answer.header("x-received").unwrap().ends_with('Z'));
        assert!(answer.header("x-stored").unwrap().ends_with('Z'));
        assert_eq!(answer.header("x-body-md5").unwrap().len(), 32);
    }
    assert_eq!(server.cache.0.lock().unwrap().len(), 1);

    let tag = get(&server, &path).await.header("etag").unwrap().to_owned();
    for (given, status) in [(tag.as_str(), 304), ("\"x\", *", 304), ("\"x\"", 200)] {
        let headers = [("X-Auth-Token", READ), ("If-None-Match", given)];
        let answer = ask(server.address, "GET", &path, &headers, b"").await;
        assert_eq!((answer.status, answer.header("etag")), (status, Some(tag.as_str())), "{given}");
    }
    let head = ask(server.address, "HEAD", &path, &[("X-Auth-Token", READ)], b"").await;
    assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));

    let full = get(&server, &format!("{path}?view=full")).await;
    let json = full.json();
    assert_eq!((json["body"].as_str(), json["id"].as_str()), (Some(body), Some(id.as_str())));
    assert_ne!(full.header("etag"), Some(tag.as_str()));
    assert_eq!(get(&server, &format!("{path}?view=half")).await.status, 400);
}

#[tokio::test]
async fn what_another_instance_erased_is_gone_with_its_receipt_and_its_key_is_free() {
    let server = Harness::start().await;
    let keyed = [&json_headers(SAVE)[..], &[("Idempotency-Key", "k")]].concat();
    let saved = ask(server.address, "POST", "/api/save", &keyed, b"1").await;
    let id = saved.json()["MessageId"].as_str().unwrap().to_owned();
    server.persist().await;
    let paths = [format!("/api/documents/{id}"), format!("/api/receipts/{id}")];
    for path in &paths {
        assert_eq!(get(&server, path).await.status, 200);
    }
    // Another instance erases: nothing here is told of it.
    let id = id.parse().unwrap();
    server.app.store.erase(id, server.app.clock.now()).await.unwrap();
    for path in &paths {
        assert_eq!(get(&server, path).await.status, 404, "{path}");
    }
    let again = ask(server.address, "POST", "/api/save", &keyed, b"2").await;
    assert_eq!(again.status, 202, "{}", again.text());
    server.persist().await;
    assert_eq!(get(&server, &paths[0]).await.text(), "2");
    assert_eq!(get(&server, &paths[1]).await.json()["state"], "stored");
}

#[tokio::test]
async fn a_receipt_tells_of_another_body_under_its_key_and_where_that_is() {
    let (server, key) = (Harness::start().await, [("Idempotency-Key", "k")]);
    let keyed = [&json_headers(SAVE)[..], &key].concat();
    let winner = ask(server.address, "POST", "/api/save", &keyed, b"1").await.json();
    // Another instance knows nothing of the key yet.
    let id = winner["MessageId"].as_str().unwrap().to_owned();
    let loser = Document {
        id: id.parse().unwrap(),
        stream: StreamName::new("default").unwrap(),
        key: Some(IdempotencyKey::new("k").unwrap()),
        received: server.app.clock.now(),
        generation: Some(0),
        body: "2".into(),
    };
    server.app.queue.send(&[loser]).await.unwrap();
    server.persist().await;
    let receipt = get(&server, &format!("/api/receipts/{id}")).await.json();
    assert_eq!(receipt["md5"], winner["MD5OfMessageBody"], "what is stored");
    assert_eq!(receipt["conflicts"], 1);
    let page = get(&server, receipt["dead_letters"].as_str().unwrap()).await.json();
    let letter = &page["dead_letters"][0];
    assert_eq!(
        (letter["id"].as_str(), letter["cause"].as_str(), letter["body"].as_str()),
        (Some(id.as_str()), Some("key_conflict"), Some("2"))
    );
}

#[tokio::test]
async fn an_erased_document_is_gone_from_store_and_cache_and_its_key_is_free() {
    let server = Harness::start().await;
    let keyed = [&json_headers(SAVE)[..], &[("Idempotency-Key", "k")]].concat();
    let saved = ask(server.address, "POST", "/api/save", &keyed, b"1").await;
    let id = saved.json()["MessageId"].as_str().unwrap().to_owned();
    server.persist().await;
    let path = format!("/api/documents/{id}");
    assert_eq!(get(&server, &path).await.status, 200);
    assert_eq!(get(&server, &format!("/api/receipts/{id}")).await.status, 200);
    assert_eq!(server.cache.0.lock().unwrap().len(), 1);
    let denied = ask(server.address, "DELETE", &path, &[("X-Auth-Token", READ)], b"").await;
    assert_eq!(denied.status, 403);
    let erased = ask(server.address, "DELETE", &path, &[("X-Auth-Token", ALL)], b"").await;
    assert_eq!((erased.status, erased.body.len()), (204, 0));
    assert!(server.cache.0.lock().unwrap().is_empty());
    assert_eq!(get(&server, &path).await.status, 404);
    assert_eq!(get(&server, &format!("/api/receipts/{id}")).await.status, 404);
    let again = ask(server.address, "POST", "/api/save", &keyed, b"2").await;
    assert_eq!(again.status, 202, "another body under the key of what was erased");
    let unknown = "/api/documents/0190a0b0-0000-7000-8000-000000000000";
    let unknown = ask(server.address, "DELETE", unknown, &[("X-Auth-Token", ALL)], b"").await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip_and_are_bounded_in_bytes() {
    let server = Harness::start().await;
    for n in 0..60 {
        save(&server, "/api/save?stream=a", &format!("{{\"n\":{n}}}")).await;
    }
    save(&server, "/api/save?stream=b", "{}").await;
    server.persist().await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&server, &format!("/api/documents?stream=a&limit=25{cursor}")).await.json();
        let documents = page["documents"].as_array().unwrap();
        assert!(documents.len() <= 25);
        seen.extend(documents.iter().map(|d| d["body"].as_str().unwrap().to_owned()));
        if page["more"] == false {
            break;
        }
        cursor = format!("&cursor={}", page["next"].as_str().unwrap());
    }
    let wanted: Vec<String> = (0..60).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert_eq!(seen, wanted);
    for bad in ["from=yesterday", "limit=0", "stream=a/b", "colour=red"] {
        assert_eq!(get(&server, &format!("/api/documents?{bad}")).await.status, 400, "{bad}");
    }
    let none = get(&server, "/api/documents?from=2100-01-01T00:00:00Z").await.json();
    assert_eq!(
        (none["documents"].as_array().unwrap().len(), none["more"].as_bool()),
        (0, Some(false))
    );

    let large = format!("\"{}\"", "x".repeat(900_000));
    for _ in 0..20 {
        save(&server, "/api/save?stream=large", &large).await;
    }
    server.persist().await;
    let page = get(&server, "/api/documents?stream=large&limit=20").await.json();
    let documents = page["documents"].as_array().unwrap().len();
    assert!(documents < 20 && page["more"] == true, "{documents}");
}

#[tokio::test]
async fn streams_are_listed_with_their_figures() {
    let server = Harness::start().await;
    save(&server, "/api/save?stream=b", "{}").await;
    save(&server, "/api/save?stream=a", "[1]").await;
    server.persist().await;
    let json = get(&server, "/api/streams").await.json();
    assert_eq!(
        (json["streams"][0]["stream"].as_str(), json["streams"][0]["bytes"].as_u64()),
        (Some("a"), Some(3))
    );
    assert_eq!(json["streams"][1]["documents"], 1);
}

#[tokio::test]
async fn dead_letters_are_listed_with_their_cause_and_redriven_by_filter() {
    let server = Harness::start().await;
    server.store.refuse(Some("poison"));
    let id = save(&server, "/api/save?stream=orders", "\"poison\"").await;
    save(&server, "/api/save?stream=orders", "\"good\"").await;
    server.persist().await;
    assert_eq!(get(&server, &format!("/api/receipts/{id}")).await.json()["state"], "dead");
    let page = get(&server, "/api/dead-letters?where=stream%3Dorders").await.json();
    let letter = &page["dead_letters"][0];
    assert_eq!(
        (letter["id"].as_str(), letter["cause"].as_str()),
        (Some(id.as_str()), Some("refused"))
    );
    assert_eq!(
        (letter["body"].as_str(), page["more"].as_bool()),
        (Some("\"poison\""), Some(false))
    );

    let redrive = async |body: &str| {
        let headers = json_headers(ALL);
        ask(server.address, "POST", "/api/dead-letters/redrive", &headers, body.as_bytes()).await
    };
    let dry = redrive(r#"{"where":"cause=refused","dry_run":true}"#).await.json();
    assert_eq!((dry["matched"].as_u64(), server.queue.len()), (Some(1), 0));
    server.store.refuse(None);
    let done = redrive(r#"{"where":"id=0190a0b0-0000-7000-8000-000000000000"}"#).await.json();
    assert_eq!(done["redriven"], 0);
    let done = redrive(r#"{"where":""}"#).await.json();
    assert_eq!((done["redriven"].as_u64(), server.queue.len()), (Some(1), 1));
    server.persist().await;
    assert_eq!(get(&server, &format!("/api/receipts/{id}")).await.json()["state"], "stored");

    for (body, code) in [
        ("", "BodyEmpty"),
        ("{", "JsonInvalid"),
        ("{}", "ParameterInvalid"),
        (r#"{"where":"colour=red"}"#, "ParameterInvalid"),
        (r#"{"where":"","dry-run":true}"#, "ParameterInvalid"),
    ] {
        let answer = redrive(body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{body}");
    }
}

#[tokio::test]
async fn summaries_are_listed_and_given_in_the_form_that_is_asked_for() {
    let server = Harness::start().await;
    save(&server, "/api/save", "{}").await;
    server.persist().await;
    let (calendar, now) = (Calendar::utc(), server.app.clock.now());
    let week = Week::of(calendar.day(now));
    let (store, bucket) = (&*server.app.store, &*server.app.bucket);
    summarize_week(store, bucket, now, &calendar, week).await.unwrap();

    let list = get(&server, "/api/summaries").await.json();
    assert_eq!(list["summaries"][0]["week"], week.to_string());
    let json = get(&server, &format!("/api/summaries/{week}")).await.json();
    assert_eq!(json["week"], week.to_string());
    for (suffix, accept, kind) in [
        (".html", "*/*", "text/html"),
        (".json", "text/html", "application/json"),
        ("", "text/html", "text/html"),
    ] {
        let headers = [("X-Auth-Token", READ), ("Accept", accept)];
        let target = format!("/api/summaries/{week}{suffix}");
        let answer = ask(server.address, "GET", &target, &headers, b"").await;
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{suffix} {accept}");
        assert_eq!(answer.status, 200);
    }
    assert_eq!(get(&server, "/api/summaries/2001-W01").await.status, 404);
    assert_eq!(get(&server, "/api/summaries/lately").await.status, 400);
}

#[tokio::test]
async fn the_newest_documents_are_listed_and_what_comes_behind_them() {
    let server = Harness::start().await;
    let numbers = |answer: &Answer| {
        let documents = answer.json()["documents"].as_array().unwrap().clone();
        documents
            .iter()
            .map(|it| it["body"].as_str().unwrap().parse().unwrap())
            .collect::<Vec<u8>>()
    };
    let nothing = get(&server, "/api/documents?last=0").await.json();
    assert_eq!(
        (nothing["documents"].as_array().unwrap().len(), &nothing["more"]),
        (0, &false.into())
    );
    for n in 1..=9 {
        save(
            &server,
            if n % 2 == 0 { "/api/save?stream=even" } else { "/api/save" },
            &n.to_string(),
        )
        .await;
        server.persist().await;
    }
    assert_eq!(numbers(&get(&server, "/api/documents?last=3").await), [7, 8, 9]);
    assert_eq!(numbers(&get(&server, "/api/documents?last=2&stream=even").await), [6, 8]);
    assert_eq!(numbers(&get(&server, "/api/documents?last=99").await).len(), 9);
    let end = get(&server, "/api/documents?last=0").await;
    assert_eq!(numbers(&end), [0u8; 0]);
    let next = end.json()["next"].as_str().unwrap().to_owned();
    save(&server, "/api/save", "10").await;
    server.persist().await;
    assert_eq!(numbers(&get(&server, &format!("/api/documents?cursor={next}")).await), [10]);
    for target in [
        "/api/documents?last=x",
        "/api/documents?last=-1",
        "/api/documents?last=1&cursor=1",
        "/api/documents?last=1&from=2026-11-21T00:00:00Z",
        "/api/documents?last=1&limit=1",
    ] {
        assert_eq!(get(&server, target).await.code(), "ParameterInvalid", "{target}");
    }
}

#[tokio::test]
async fn documents_are_found_by_the_first_digits_of_their_ids() {
    let server = Harness::start().await;
    let id = save(&server, "/api/save?stream=orders", "[1]").await;
    server.persist().await;
    let found = |answer: Answer| {
        let json = answer.json();
        (json["documents"].as_array().unwrap().len(), json["documents"][0]["id"].clone())
    };
    for digits in [8, 12, 13, 36] {
        let target = format!("/api/documents?prefix={}", &id[..digits]);
        assert_eq!(found(get(&server, &target).await), (1, id.as_str().into()), "{digits}");
    }
    let other = format!("/api/documents?prefix={}&stream=default", &id[..8]);
    assert_eq!(found(get(&server, &other).await).0, 0);
    for (prefix, code) in [("019aa2f", "ParameterInvalid"), ("xyzxyzxyz", "IdInvalid")] {
        let refused = get(&server, &format!("/api/documents?prefix={prefix}")).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, code));
    }
    let beside = format!("/api/documents?prefix={}&cursor=1", &id[..8]);
    assert_eq!(get(&server, &beside).await.code(), "ParameterInvalid");
}
