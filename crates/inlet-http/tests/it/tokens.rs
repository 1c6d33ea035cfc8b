//! `/api/admin/tokens`.

use serde_json::{Value, json};

use crate::client::{Answer, ask, json_headers};
use crate::harness::{ALL, Harness, READ, SAVE};

const TOKENS: &str = "/api/admin/tokens";

async fn add(server: &Harness, token: &str, wanted: &Value) -> Answer {
    let body = wanted.to_string();
    ask(server.address, "POST", TOKENS, &json_headers(token), body.as_bytes()).await
}

async fn with(server: &Harness, token: &str, method: &str, target: &str) -> Answer {
    ask(server.address, method, target, &[("X-Auth-Token", token)], b"").await
}

#[tokio::test]
async fn a_token_is_made_told_once_used_and_revoked() {
    let server = Harness::start().await;
    let wanted = json!({
        "name": "device@7",
        "scopes": ["save", "save"],
        "streams": ["readings"],
        "expires": "2999-01-01T00:00:00Z",
    });
    let made = add(&server, ALL, &wanted).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let text = made["token"].as_str().unwrap().to_owned();
    let save = || async {
        let target = "/api/save?stream=readings";
        ask(server.address, "POST", target, &json_headers(&text), b"{}").await.status
    };
    assert_eq!(save().await, 202, "it is good at once");

    let listed = with(&server, ALL, "GET", TOKENS).await;
    assert!(!listed.text().contains(&text) && !listed.text().contains("sha256"));
    let listed = listed.json();
    let token = &listed["tokens"][0];
    assert_eq!(token["name"], "device@7");
    assert_eq!(token["scopes"], json!(["save"]));
    assert_eq!(token["streams"], json!(["readings"]));
    assert_eq!(token["expires"], "2999-01-01T00:00:00.000000Z");
    assert!(token["last_used"].is_string() && token["created"].is_string(), "{token}");

    let gone = with(&server, ALL, "DELETE", &format!("{TOKENS}/device%407")).await;
    assert_eq!(gone.status, 204);
    assert_eq!(save().await, 401, "it is refused at once");
    let again = with(&server, ALL, "DELETE", &format!("{TOKENS}/device%407")).await;
    assert_eq!((again.status, again.code().as_str()), (404, "NotFound"));
}

#[tokio::test]
async fn tokens_are_administered_with_the_scope_admin_alone() {
    let server = Harness::start().await;
    let wanted = json!({"name": "x", "scopes": ["admin"]});
    for token in [SAVE, READ] {
        assert_eq!(add(&server, token, &wanted).await.code(), "ScopeMissing");
        for (method, target) in [("GET", TOKENS), ("DELETE", "/api/admin/tokens/x")] {
            assert_eq!(with(&server, token, method, target).await.code(), "ScopeMissing");
        }
    }
    assert_eq!(server.app.tokens.as_ref().unwrap().known().tokens().len(), 0);
}

#[tokio::test]
async fn the_last_token_that_may_administer_goes_only_when_the_query_says_so() {
    let server = Harness::start().await;
    for (name, scopes) in [("admin", json!(["admin"])), ("other", json!(["read"]))] {
        assert_eq!(add(&server, ALL, &json!({"name": name, "scopes": scopes})).await.status, 201);
    }
    let path = format!("{TOKENS}/admin");
    let kept = with(&server, ALL, "DELETE", &path).await;
    assert_eq!((kept.status, kept.code().as_str()), (409, "LastAdminToken"));
    let unclear = with(&server, ALL, "DELETE", &format!("{path}?last=yes")).await;
    assert_eq!(unclear.code(), "ParameterInvalid");
    assert_eq!(with(&server, ALL, "DELETE", &format!("{path}?last=true")).await.status, 204);
}

#[tokio::test]
async fn a_description_that_does_not_fit_is_refused_and_nothing_is_made() {
    let server = Harness::start().await;
    for wanted in [
        json!({}),
        json!({"name": "x"}),
        json!({"name": "x", "scopes": []}),
        json!({"name": "x", "scopes": ["write"]}),
        json!({"name": "a b", "scopes": ["save"]}),
        json!({"name": "x", "scopes": ["save"], "streams": []}),
        json!({"name": "x", "scopes": ["save"], "streams": ["a/b"]}),
        json!({"name": "x", "scopes": ["save"], "expires": "soon"}),
        json!({"name": "x", "scopes": ["save"], "expires": "2001-01-01T00:00:00Z"}),
        json!({"name": "x", "scopes": ["save"], "colour": "red"}),
        json!([]),
    ] {
        let refused = add(&server, ALL, &wanted).await;
        assert_eq!(refused.status, 400, "{wanted}: {}", refused.text());
    }
    assert_eq!(with(&server, ALL, "GET", TOKENS).await.json(), json!({"tokens": []}));
    let wanted = json!({"name": "x", "scopes": ["save"]});
    assert_eq!(add(&server, ALL, &wanted).await.status, 201);
    let taken = add(&server, ALL, &wanted).await;
    assert_eq!((taken.status, taken.code().as_str()), (409, "TokenNameTaken"));
}
