//! What is sent again, and what is not.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use inlet_edge::firewall::Route;
use inlet_edge::{DocumentIds, Edge, EdgeOptions};

use crate::instance::{Does, Instance};
use crate::setup::{get, post, request, running, send, unchecked, until};

/// Without ejections, so that each request finds what it was meant to find.
fn unejected(instances: &[&Instance]) -> EdgeOptions {
    let mut options = unchecked(instances);
    options.health.connect_errors = u32::MAX;
    options.health.answer_errors = u32::MAX;
    options
}

fn keyed_route() -> Route {
    Route {
        method: Method::POST,
        path: "/api/save".to_owned(),
        content_types: Vec::new(),
        body_bytes_max: 1 << 20,
        is_keyed: true,
    }
}

#[tokio::test]
async fn a_dead_instance_costs_no_request_whatever_its_method() {
    let (dead, alive) = (Instance::start("dead").await, Instance::start("alive").await);
    let edge = Edge::new(unejected(&[&dead, &alive])).unwrap();
    dead.is_killed();
    for _ in 0..20 {
        assert_eq!(post(&edge, "/api/save", "{}").await.text(), "alive {}");
        assert_eq!(get(&edge, "/").await.from(), "alive");
    }
    assert!(edge.status()[1].retries > 0);
    assert_eq!(alive.count(), 40);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_request() {
    let instance = Instance::start("one").await;
    instance.does(Does::BreakOffWhenReused);
    let edge = Edge::new(unejected(&[&instance])).unwrap();
    for _ in 0..10 {
        assert_eq!(get(&edge, "/").await.from(), "one");
    }
    // Each but the first was sent on a kept connection, which broke, and then on a new one.
    assert_eq!(instance.count(), 10 + 9);
    assert_eq!(edge.status()[0].answer_errors, 0, "that is no failure of the instance");
}

#[tokio::test]
async fn a_post_without_a_key_is_not_sent_twice_once_it_was_written() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    let mut options = unejected(&[&one, &two]);
    options.routes = vec![keyed_route()];
    let edge = Edge::new(options).unwrap();
    for instance in [&one, &two] {
        instance.does(Does::BreakOff);
    }
    let answer = post(&edge, "/api/save", "{}").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.problem()["code"], "InstanceFailed");
    assert_eq!(one.count() + two.count(), 1);
}

#[tokio::test]
async fn a_post_with_a_key_goes_to_another_instance() {
    let (broken, alive) = (Instance::start("broken").await, Instance::start("alive").await);
    broken.does(Does::BreakOff);
    let mut options = unejected(&[&broken, &alive]);
    options.routes = vec![keyed_route()];
    let edge = Edge::new(options).unwrap();
    for _ in 0..10 {
        let mut request = request(Method::POST, "/api/save", "{}");
        request.headers_mut().insert("idempotency-key", "k-1".parse().unwrap());
        assert_eq!(send(&edge, request).await.text(), "alive {}");
    }
    assert!(broken.count() > 0);
    assert_eq!(broken.seen()[0].headers["idempotency-key"], "k-1");
    assert_eq!(broken.seen()[0].headers["x-request-id"], {
        let id = &broken.seen()[0].headers["x-request-id"];
        alive.seen().iter().find(|seen| seen.headers["x-request-id"] == id).unwrap().headers
            ["x-request-id"]
            .clone()
    });
}

#[tokio::test]
async fn a_post_that_the_edge_gives_a_key_goes_to_another_instance_with_the_same_key() {
    let (broken, alive) = (Instance::start("broken").await, Instance::start("alive").await);
    broken.does(Does::BreakOff);
    let mut options = unejected(&[&broken, &alive]);
    options.routes = vec![keyed_route()];
    options.retry.mints_keys = true;
    let edge = Edge::new(options).unwrap();
    for _ in 0..10 {
        assert_eq!(post(&edge, "/api/save", "{}").await.text(), "alive {}");
    }
    let key = |seen: &crate::instance::Seen| seen.headers["idempotency-key"].clone();
    let (first, second): (Vec<_>, Vec<_>) =
        (broken.seen().iter().map(key).collect(), alive.seen().iter().map(key).collect());
    assert!(!first.is_empty() && first.iter().all(|key| second.contains(key)));
    let different: std::collections::HashSet<_> = second.iter().collect();
    assert_eq!(different.len(), 10, "each document has a key of its own");
    let mut given = request(Method::POST, "/api/save", "{}");
    given.headers_mut().insert("idempotency-key", "mine".parse().unwrap());
    send(&edge, given).await;
    assert_eq!(alive.seen().last().unwrap().headers["idempotency-key"], "mine");
}

/// `Connection` may name any header, which then ends at the edge: a decision that rests on it
/// would be one on another request than the one the instance gets.
#[tokio::test]
async fn a_key_that_connection_names_makes_no_request_repeatable() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    let mut options = unejected(&[&one, &two]);
    options.routes = vec![keyed_route()];
    let edge = Edge::new(options).unwrap();
    for instance in [&one, &two] {
        instance.does(Does::BreakOff);
    }
    let mut named = request(Method::POST, "/api/save", "{}");
    named.headers_mut().insert("idempotency-key", "k-1".parse().unwrap());
    named.headers_mut().insert("connection", "keep-alive, Idempotency-Key".parse().unwrap());
    assert_eq!(send(&edge, named).await.status, 502);
    assert_eq!(one.count() + two.count(), 1, "without a key it goes to one instance");
}

#[tokio::test]
async fn a_header_that_connection_names_takes_out_nothing_that_the_edge_gives() {
    let named = || {
        let mut named = request(Method::POST, "/api/save", "{}");
        let names = "keep-alive, Idempotency-Key";
        named.headers_mut().insert("connection", names.parse().unwrap());
        named.headers_mut().insert("idempotency-key", "theirs".parse().unwrap());
        named
    };
    let instance = Instance::start("one").await;
    let mut options = unejected(&[&instance]);
    options.routes = vec![keyed_route()];
    options.retry.mints_keys = true;
    send(&Edge::new(options).unwrap(), named()).await;
    let key = &instance.seen()[0].headers["idempotency-key"];
    assert_eq!(key.len(), 36, "one of the edge's: {key:?}");
}

#[tokio::test]
async fn a_document_whose_id_the_edge_minted_goes_to_another_instance_under_the_same_id() {
    let (broken, alive) = (Instance::start("broken").await, Instance::start("alive").await);
    broken.does(Does::BreakOff);
    let mut options = unejected(&[&broken, &alive]);
    options.routes = vec![keyed_route()];
    options.document_ids = DocumentIds::new(minted, "secret");
    let edge = Edge::new(options).unwrap();
    for _ in 0..10 {
        assert_eq!(post(&edge, "/api/save", "{}").await.text(), "alive {}");
    }
    let id = |seen: &crate::instance::Seen| {
        assert_eq!(seen.headers["x-inlet-edge"], "secret");
        assert!(!seen.headers.contains_key("idempotency-key"));
        seen.headers["x-inlet-document-id"].clone()
    };
    let (first, second): (Vec<_>, Vec<_>) =
        (broken.seen().iter().map(id).collect(), alive.seen().iter().map(id).collect());
    assert!(!first.is_empty() && first.iter().all(|id| second.contains(id)));
    let different: std::collections::HashSet<_> = second.iter().collect();
    assert_eq!(different.len(), 10, "each document has an id of its own");
    let mut given = request(Method::POST, "/api/save", "{}");
    given.headers_mut().insert("idempotency-key", "mine".parse().unwrap());
    send(&edge, given).await;
    let last = alive.seen().last().unwrap().headers.clone();
    assert_eq!(last["idempotency-key"], "mine");
    assert!(!last.contains_key("x-inlet-document-id") && !last.contains_key("x-inlet-edge"));
}

#[tokio::test]
async fn an_id_that_a_client_gives_reaches_no_instance() {
    let instance = Instance::start("one").await;
    let mut options = unejected(&[&instance]);
    options.routes = vec![keyed_route()];
    options.document_ids = DocumentIds::new(minted, "secret");
    let edge = Edge::new(options).unwrap();
    for key in [None, Some("k-1")] {
        let mut given = request(Method::POST, "/api/save", "{}");
        given.headers_mut().insert("x-inlet-document-id", "mine".parse().unwrap());
        if let Some(key) = key {
            given.headers_mut().insert("idempotency-key", key.parse().unwrap());
        }
        assert_eq!(send(&edge, given).await.status, 400);
    }
    assert_eq!(instance.count(), 0);
}

/// Different each time; what an id is, the edge does not know.
fn minted() -> [u8; 36] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{number:036}").into_bytes().try_into().unwrap()
}

/// `Connection` may name any header, which then ends at the edge: a decision that rests on it
/// would be one on another request than the one the instance gets.
#[tokio::test]
async fn an_answer_is_never_asked_for_again_even_if_it_is_an_error() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    let edge = Edge::new(unejected(&[&one, &two])).unwrap();
    for status in [500, 502, 503, 504] {
        one.does(Does::Status(status));
        two.does(Does::Status(status));
        assert_eq!(get(&edge, "/").await.status, status);
    }
    assert_eq!(one.count() + two.count(), 4);
}

#[tokio::test]
async fn an_instance_that_does_not_answer_in_time_is_given_up_on() {
    let (hung, alive) = (Instance::start("hung").await, Instance::start("alive").await);
    hung.does(Does::Hang);
    let mut options = unejected(&[&hung, &alive]);
    options.connections.response_ms = 50;
    let edge = running(options, 2).await;
    let mut timeouts = 0;
    for _ in 0..4 {
        assert_eq!(get(&edge, "/").await.from(), "alive");
        // Two, so that one of them falls to either instance, whosever turn it is.
        for _ in 0..2 {
            timeouts += u32::from(post(&edge, "/", "{}").await.status == 504);
        }
    }
    assert!(timeouts > 0, "a POST that was written is not sent to another");
    assert_eq!(edge.status()[0].outstanding, 0);
}

#[tokio::test]
async fn retries_are_held_to_their_budget() {
    let (broken, alive) = (Instance::start("broken").await, Instance::start("alive").await);
    broken.does(Does::BreakOff);
    let mut options = unejected(&[&broken, &alive]);
    options.retry.budget_reserve = 5;
    options.retry.budget_per_second = 0;
    let edge = Edge::new(options).unwrap();
    for _ in 0..200 {
        get(&edge, "/").await;
    }
    // A fifth of 200, the five saved up, and none for the rest.
    let retries: u64 = edge.status().iter().map(|status| status.retries).sum();
    assert!((30..=45).contains(&retries), "{retries}");
}

#[tokio::test]
async fn where_nothing_can_be_reached_the_answer_says_so_and_when_to_come_back() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    let edge = Edge::new(unejected(&[&one, &two])).unwrap();
    one.is_killed();
    two.is_killed();
    let answer = post(&edge, "/api/save", "{}").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["retry-after"], "1");
    let problem = answer.problem();
    assert_eq!(problem["code"], "Unavailable");
    assert_eq!(problem["httpStatus"], 503);
    assert_eq!(problem["instance"], "/api/save");
    assert_eq!(problem["requestId"], answer.headers["x-request-id"].to_str().unwrap());
    let none = Edge::new(EdgeOptions::default()).unwrap();
    assert_eq!(get(&none, "/").await.status, 503);
}

#[tokio::test]
async fn instances_that_are_full_are_passed_by_and_all_full_is_told() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    for instance in [&one, &two] {
        instance.does(Does::Hang);
    }
    let mut options = unejected(&[&one, &two]);
    options.connections.outstanding_max = 3;
    let edge = Edge::new(options).unwrap();
    let asking: Vec<_> = (0..6)
        .map(|_| {
            let edge = edge.clone();
            tokio::spawn(async move { get(&edge, "/").await })
        })
        .collect();
    until("both are full", || one.count() == 3 && two.count() == 3).await;
    let answer = get(&edge, "/").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert_eq!(answer.problem()["code"], "Overloaded");
    asking.iter().for_each(tokio::task::JoinHandle::abort);
}
