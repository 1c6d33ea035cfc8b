//! Usage plans, through the edge.

use std::net::IpAddr;

use http::Method;
use inlet_edge::limits::Plans;
use inlet_edge::{Edge, Peer};

use crate::instance::Instance;
use crate::setup::{Answered, request, send_from, unchecked};

async fn limited(plans: &str) -> (Instance, Edge) {
    let instance = Instance::start("one").await;
    let mut options = unchecked(&[&instance]);
    options.plans = Plans::parse(plans).unwrap();
    let edge = Edge::new(options).unwrap();
    (instance, edge)
}

async fn save(edge: &Edge, address: &str, token: &str) -> Answered {
    let mut request = request(Method::POST, "/api/save", "{}");
    request.headers_mut().insert("x-auth-token", token.parse().unwrap());
    let address: IpAddr = address.parse().unwrap();
    send_from(edge, request, Peer { address, is_tls: true }).await
}

#[tokio::test]
async fn past_its_plan_a_token_is_told_to_wait() {
    let (instance, edge) =
        limited("token_plan = \"bronze\"\n[plans.bronze]\nrequests_per_second = 1\n").await;
    let first = save(&edge, "192.0.2.1", "t").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.headers["ratelimit-policy"], "\"bronze\";q=2;w=2");
    assert_eq!(first.headers["ratelimit"], "\"bronze\";r=1;t=1");
    assert_eq!(save(&edge, "192.0.2.1", "t").await.status, 200);
    let over = save(&edge, "192.0.2.1", "t").await;
    assert_eq!(over.status, 429);
    assert_eq!(over.headers["retry-after"], "1");
    assert_eq!(over.headers["ratelimit"], "\"bronze\";r=0;t=1");
    assert_eq!(over.problem()["code"], "RateLimited");
    assert_eq!(instance.count(), 2);
    assert_eq!(save(&edge, "192.0.2.1", "other").await.status, 200);
}

#[tokio::test]
async fn a_flood_of_one_address_leaves_another_its_full_share() {
    let (instance, edge) = limited(
        "address_plan = \"each\"\n[plans.each]\nrequests_per_second = 1\nrequests_burst = 25\n",
    )
    .await;
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..2_000 {
        let edge = edge.clone();
        flood.spawn(async move { save(&edge, "192.0.2.66", &number.to_string()).await.status });
    }
    for _ in 0..25 {
        assert_eq!(save(&edge, "192.0.2.1", "calm").await.status, 200);
    }
    let statuses = flood.join_all().await;
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!((25..30).contains(&passed), "{passed}: other tokens are no way around it");
    assert!(statuses.iter().all(|status| *status == 200 || *status == 429));
    assert_eq!(instance.count(), 25 + passed);
}

#[tokio::test]
async fn plans_can_be_changed_while_it_runs() {
    let (_instance, edge) = limited("").await;
    assert!(!save(&edge, "192.0.2.1", "t").await.headers.contains_key("ratelimit"));
    let plans = "address_plan = \"a\"\n[plans.a]\nrequests_per_second = 1\nrequests_burst = 1\n";
    edge.set_plans(Plans::parse(plans).unwrap());
    assert_eq!(save(&edge, "192.0.2.1", "t").await.status, 200);
    assert_eq!(save(&edge, "192.0.2.1", "t").await.status, 429);
}

#[test]
fn the_files_in_the_docs_can_be_used() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/EDGE.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let block = |name: &str| {
        let begun = docs.split_once(&format!("```toml\n# {name}\n")).unwrap().1;
        begun.split_once("```").unwrap().0.to_owned()
    };
    Plans::parse(&block("plans.toml")).unwrap();
    let rules = inlet_edge::firewall::Rules::parse(&block("firewall.toml")).unwrap();
    assert_eq!(rules.rules.len(), 3);
}
