//! Tokens that are limited to streams.

use inlet_http::routes::{Endpoint, ROUTES};

use crate::client::{Answer, ask, json_headers};
use crate::harness::{ALL, Harness, ORDERS, TWO};

async fn save(server: &Harness, token: &str, target: &str) -> Answer {
    ask(server.address, "POST", target, &json_headers(token), b"{\"a\":1}").await
}

async fn with(server: &Harness, token: &str, method: &str, target: &str) -> Answer {
    ask(server.address, method, target, &[("X-Auth-Token", token)], b"").await
}

fn id(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["MessageId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_limited_to_streams_saves_into_no_other() {
    let server = Harness::start().await;
    for (token, target, code) in [
        (ORDERS, "/api/save?stream=returns", "StreamForbidden"),
        (ORDERS, "/api/save/batch?stream=default", "StreamForbidden"),
        (TWO, "/api/save", "StreamForbidden"),
        (TWO, "/api/save?stream=default", "StreamForbidden"),
    ] {
        let answer = save(&server, token, target).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, code), "{token} {target}");
    }
    save(&server, TWO, "/api/save?stream=returns").await;
    // With one stream there is no doubt which is meant.
    let implied = id(&save(&server, ORDERS, "/api/save").await);
    server.persist().await;
    let stored = with(&server, ALL, "GET", &format!("/api/documents/{implied}")).await;
    assert_eq!(stored.header("x-stream"), Some("orders"));
}

#[tokio::test]
async fn a_token_limited_to_streams_reads_and_erases_nothing_of_others() {
    let server = Harness::start().await;
    let own = id(&save(&server, ALL, "/api/save?stream=orders").await);
    let other = id(&save(&server, ALL, "/api/save?stream=secret").await);
    server.persist().await;
    // The second time answers come from the cache.
    for _ in 0..2 {
        for path in ["documents", "receipts"] {
            let found = with(&server, ORDERS, "GET", &format!("/api/{path}/{own}")).await;
            assert_eq!(found.status, 200, "{path}");
            let hidden = with(&server, ORDERS, "GET", &format!("/api/{path}/{other}")).await;
            assert_eq!((hidden.status, hidden.code().as_str()), (404, "NotFound"), "{path}");
            assert_eq!(
                with(&server, ALL, "GET", &format!("/api/{path}/{other}")).await.status,
                200
            );
        }
    }
    let erased = with(&server, ORDERS, "DELETE", &format!("/api/documents/{other}")).await;
    assert_eq!(erased.status, 404);
    assert_eq!(with(&server, ALL, "GET", &format!("/api/documents/{other}")).await.status, 200);
    let erased = with(&server, ORDERS, "DELETE", &format!("/api/documents/{own}")).await;
    assert_eq!(erased.status, 204);
}

#[tokio::test]
async fn lists_are_kept_to_the_streams_of_the_token() {
    let server = Harness::start().await;
    for stream in ["orders", "returns", "secret"] {
        save(&server, ALL, &format!("/api/save?stream={stream}")).await;
    }
    server.persist().await;
    let streams_of = |answer: Answer, list: &str| {
        let items = answer.json()[list].as_array().unwrap().clone();
        items.iter().map(|item| item["stream"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let streams = with(&server, TWO, "GET", "/api/streams").await;
    assert_eq!(streams_of(streams, "streams"), ["orders", "returns"]);
    let documents = with(&server, ORDERS, "GET", "/api/documents").await;
    assert_eq!(streams_of(documents, "documents"), ["orders"]);
    for list in ["/api/documents", "/api/dead-letters"] {
        let unnamed = with(&server, TWO, "GET", list).await;
        assert_eq!((unnamed.status, unnamed.code().as_str()), (400, "ParameterInvalid"), "{list}");
    }
    for target in ["/api/documents?stream=secret", "/api/dead-letters?where=stream=secret"] {
        let other = with(&server, TWO, "GET", target).await;
        assert_eq!((other.status, other.code().as_str()), (403, "StreamForbidden"), "{target}");
    }
    let redrive = b"{\"where\":\"stream=secret\"}";
    let headers = json_headers(ORDERS);
    let redriven =
        ask(server.address, "POST", "/api/dead-letters/redrive", &headers, redrive).await;
    assert_eq!(redriven.status, 403);
}

#[tokio::test]
async fn a_token_limited_to_streams_is_refused_wherever_streams_are_not_kept_apart() {
    let server = Harness::start().await;
    let mut refused = 0;
    for route in ROUTES.iter().filter(|route| route.scope.is_some()) {
        if route.endpoint.is_about_streams() {
            continue;
        }
        let path = route.path.split('{').next().unwrap();
        let path = if path.len() < route.path.len() { format!("{path}x") } else { path.to_owned() };
        let answer = with(&server, ORDERS, route.method.as_str(), &path).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "StreamsOnly"), "{path}");
        refused += 1;
    }
    assert!(refused > 0 && Endpoint::Save.is_about_streams());
}
