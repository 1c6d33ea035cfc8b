//! What a token may do, on every route and as the table of routes says it.

use std::collections::BTreeMap;

use inlet_core::auth::Scope;
use inlet_core::ports::Bucket;
use inlet_http::routes::ROUTES;

use crate::client::{Connection, ask, request};
use crate::harness::{ADMIN, ALL, Harness, READ, SAVE};

/// Every token of the tests with its scopes; the last two are none.
const TOKENS: [(Option<&str>, &[Scope]); 6] = [
    (Some(SAVE), &[Scope::Save]),
    (Some(READ), &[Scope::Read]),
    (Some(ADMIN), &[Scope::Admin]),
    (Some(ALL), &Scope::ALL),
    (Some("unknown"), &[]),
    (None, &[]),
];

/// A path of the route, for something that is not there.
fn path(pattern: &str) -> String {
    pattern
        .replace("{id}", "01a22a23-b5fb-714a-83d2-9808f6c37825")
        .replace("{week}", "2026-W01")
        .replace("{key*}", "none/there")
        .replace("{name}", "none")
}

#[tokio::test]
async fn every_route_takes_a_token_with_its_scope_and_no_other() {
    let server = Harness::start().await;
    let mut judged = 0;
    for route in ROUTES {
        let with = route.scope_with.map(|(name, scope)| (format!("?{name}=x"), Some(scope)));
        for (query, scope) in [(String::new(), route.scope)].into_iter().chain(with) {
            for (token, scopes) in TOKENS {
                let headers: Vec<_> =
                    token.map(|token| ("X-Auth-Token", token)).into_iter().collect();
                let (method, path) = (route.method.as_str(), path(route.path) + &query);
                let status = ask(server.address, method, &path, &headers, b"").await.status;
                let expected = match scope {
                    None => None,
                    Some(_) if scopes.is_empty() => Some(401),
                    Some(scope) if !scopes.contains(&scope) => Some(403),
                    Some(_) => None,
                };
                let refused = matches!(status, 401 | 403).then_some(status);
                assert_eq!(refused, expected, "{method} {path} with {token:?}: {status}");
                judged += 1;
            }
        }
    }
    assert!(judged >= 25 * TOKENS.len(), "{judged}");
}

/// Pinned, so that a scope changes in the open.
#[test]
fn what_each_scope_opens_is_as_it_is_written_here() {
    let mut opened: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for route in ROUTES {
        let name = format!("{} {}", route.method, route.path);
        let scope = route.scope.map_or("none", Scope::as_str);
        opened.entry(scope).or_default().push(name.clone());
        if let Some((parameter, scope)) = route.scope_with {
            opened.entry(scope.as_str()).or_default().push(format!("{name}?{parameter}"));
        }
    }
    let files = |scope: &str| -> Vec<&str> {
        let routes = opened[scope].iter().map(String::as_str);
        routes.filter(|name| name.contains("/api/files")).collect()
    };
    assert_eq!(
        files("save"),
        ["PUT /api/files/{key*}", "POST /api/files/{key*}", "DELETE /api/files/{key*}?uploadId"]
    );
    assert_eq!(files("read"), ["GET /api/files", "GET /api/files/{key*}"]);
    assert_eq!(files("admin"), ["DELETE /api/files/{key*}"]);
    let open = &opened["none"];
    assert!(!open.iter().any(|name| name.contains(" /api/")), "{open:?}");
}

#[tokio::test]
async fn a_token_that_may_save_creates_files_and_never_replaces_one() {
    let server = Harness::start().await;
    let path = "/api/files/k";
    let put = async |token, headers: &[(&str, &str)], body: &[u8]| {
        let headers = [&[("X-Auth-Token", token)], headers].concat();
        ask(server.address, "PUT", path, &headers, body).await
    };
    let first = put(SAVE, &[], b"first").await;
    assert_eq!(first.status, 201);
    let tag = first.header("etag").unwrap();
    for headers in [vec![], vec![("If-Match", tag)], vec![("If-Match", "*")]] {
        let refused = put(SAVE, &headers, b"second").await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "ScopeMissing"), "{headers:?}");
    }
    // In parts neither: not when it is begun, and not when the file came after that.
    let post = async |token, target: &str| {
        ask(server.address, "POST", target, &[("X-Auth-Token", token)], b"").await
    };
    assert_eq!(post(SAVE, "/api/files/k?uploads").await.status, 403);
    let begun = post(SAVE, "/api/files/later?uploads").await.json();
    let id = begun["uploadId"].as_str().unwrap();
    let part = format!("/api/files/later?uploadId={id}&partNumber=1");
    let token = [("X-Auth-Token", SAVE)];
    assert_eq!(ask(server.address, "PUT", &part, &token, b"parts").await.status, 200);
    assert_eq!(ask(server.address, "PUT", "/api/files/later", &token, b"first").await.status, 201);
    let finish = format!("/api/files/later?uploadId={id}");
    assert_eq!(post(SAVE, &finish).await.status, 403);
    assert_eq!(post(ALL, &finish).await.status, 201);
    assert_eq!(put(ALL, &[], b"second").await.status, 201);
    assert_eq!(server.bucket.list("files/", None, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn of_two_files_that_come_at_once_one_is_created_and_the_other_refused() {
    let server = Harness::start().await;
    let bytes = |body: &[u8]| request("PUT", "/api/files/k", &[("X-Auth-Token", SAVE)], body);
    let (one, other) = (bytes(b"one of two"), bytes(b"the other!"));
    let mut connections = Vec::new();
    for bytes in [&one, &other] {
        let mut connection = Connection::open(server.address).await;
        connection.send(&bytes[..bytes.len() - 1]).await;
        connections.push(connection);
    }
    for (connection, bytes) in connections.iter_mut().zip([&one, &other]) {
        connection.send(&bytes[bytes.len() - 1..]).await;
    }
    let mut statuses = Vec::new();
    for connection in &mut connections {
        statuses.push(connection.answer().await.unwrap().status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 403]);
}
