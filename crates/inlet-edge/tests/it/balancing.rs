//! Who is asked when all is well.

use std::collections::HashMap;
use std::time::Duration;

use inlet_edge::Edge;

use crate::instance::{Does, Instance};
use crate::setup::{get, unchecked, until};

async fn four() -> Vec<Instance> {
    let mut instances = Vec::new();
    for id in ["a1", "a2", "b1", "b2"] {
        instances.push(Instance::start(id).await);
    }
    instances
}

fn in_two_zones(instances: &[Instance], own: Option<&str>) -> inlet_edge::EdgeOptions {
    let mut options = unchecked(&[]);
    options.backends =
        instances.iter().map(|instance| instance.options(&instance.id[..1])).collect();
    options.zone = own.map(str::to_owned);
    options
}

#[tokio::test]
async fn one_client_sees_all_instances_in_both_zones_in_turn() {
    let instances = four().await;
    let mut options = in_two_zones(&instances, None);
    // No answer is so late that it makes an instance another's better.
    options.balance.latency_floor_us = 10_000_000;
    let edge = Edge::new(options).unwrap();
    let mut counts: HashMap<String, u32> = HashMap::new();
    for _ in 0..40 {
        *counts.entry(get(&edge, "/").await.from().to_owned()).or_default() += 1;
    }
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert!(counts.values().all(|count| *count == 10), "{counts:?}");
}

#[tokio::test]
async fn the_own_zone_is_asked_while_it_is_not_overloaded() {
    let instances = four().await;
    let edge = Edge::new(in_two_zones(&instances, Some("b"))).unwrap();
    for _ in 0..20 {
        assert!(get(&edge, "/").await.from().starts_with('b'));
    }
    for instance in &instances[2..] {
        instance.does(Does::Hang);
    }
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let edge = edge.clone();
        asking.spawn(async move { get(&edge, "/").await });
    }
    until("what is too much goes over", || instances[0].count() + instances[1].count() > 0).await;
    // What is above eight for each of the two, and twice the load of the others.
    until("the own zone is full", || instances[2].count() + instances[3].count() >= 16).await;
    until("all were asked", || instances.iter().map(Instance::count).sum::<usize>() == 60).await;
    asking.abort_all();
}

#[tokio::test]
async fn a_slow_instance_gets_the_least() {
    let instances = four().await;
    let edge = Edge::new(in_two_zones(&instances, None)).unwrap();
    instances[1].does(Does::Slow(Duration::from_millis(30)));
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..400 {
        let edge = edge.clone();
        asking.spawn(async move { get(&edge, "/").await.from().to_owned() });
        if number >= 16 {
            asking.join_next().await.unwrap().unwrap();
        }
    }
    asking.join_all().await;
    let slow = instances[1].count();
    let others: Vec<usize> = [0, 2, 3].map(|index| instances[index].count()).into();
    assert!(others.iter().all(|count| *count > 3 * slow), "{slow} {others:?}");
}
