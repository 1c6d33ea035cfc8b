//! Instances that fail, and how soon it shows.

use std::time::{Duration, Instant};

use inlet_edge::health::{EjectionCause, Standing};
use inlet_edge::{Edge, HealthOptions};

use crate::instance::{Does, Instance};
use crate::setup::{checked, get, post, running, unchecked, until, up_count};

fn standing(edge: &Edge, id: &str) -> Standing {
    edge.status().into_iter().find(|status| status.id == id).unwrap().standing
}

#[tokio::test]
async fn a_zone_that_is_killed_costs_no_request_that_can_be_sent_again() {
    let a = [Instance::start("a1").await, Instance::start("a2").await];
    let b = [Instance::start("b1").await, Instance::start("b2").await];
    let backends = a.iter().map(|instance| instance.options("a"));
    let backends = backends.chain(b.iter().map(|instance| instance.options("b"))).collect();
    let edge = running(checked(backends), 4).await;
    for number in 0..200 {
        if number == 50 {
            a.iter().for_each(Instance::is_killed);
        }
        let answer = get(&edge, "/").await;
        if number > 50 {
            assert!(answer.from().starts_with('b'), "{answer:?}");
        }
        // These find closed ports or connections; none was written when it failed.
        assert_eq!(post(&edge, "/api/save", "{}").await.status, 200);
    }
    until("the zone is out", || up_count(&edge) == 2).await;
}

#[tokio::test]
async fn a_silent_instance_is_out_within_two_seconds_and_what_it_had_goes_to_another() {
    let (silent, alive) = (Instance::start("silent").await, Instance::start("alive").await);
    let mut options = checked(vec![silent.options("a"), alive.options("b")]);
    // The intervals that are the default, for that is what two seconds are promised of.
    options.health = HealthOptions::default();
    let edge = running(options, 2).await;
    silent.falls_silent();
    let began = Instant::now();
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let edge = edge.clone();
            tokio::spawn(async move { get(&edge, "/").await })
        })
        .collect();
    until("it is down", || standing(&edge, "silent") == Standing::Down).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for asking in asking {
        assert_eq!(asking.await.unwrap().from(), "alive");
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_instance_that_is_not_ready_gets_nothing_until_it_is() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    let edge = running(checked(vec![one.options("a"), two.options("a")]), 2).await;
    one.is_ready(false);
    until("it is down", || standing(&edge, "one") == Standing::Down).await;
    let before = one.count();
    for _ in 0..10 {
        assert_eq!(get(&edge, "/").await.from(), "two");
    }
    assert_eq!(one.count(), before);
    one.is_ready(true);
    until("it is up", || up_count(&edge) == 2).await;
    let from: Vec<_> =
        [get(&edge, "/").await, get(&edge, "/").await].map(|a| a.from().to_owned()).into();
    assert!(from.contains(&"one".to_owned()), "{from:?}");
}

#[tokio::test]
async fn an_instance_that_answers_errors_is_ejected_and_taken_back() {
    let (bad, good) = (Instance::start("bad").await, Instance::start("good").await);
    bad.does(Does::Status(500));
    let edge = running(checked(vec![bad.options("a"), good.options("a")]), 2).await;
    let mut errors = 0;
    while standing(&edge, "bad") != Standing::Ejected(EjectionCause::Errors) {
        errors += u32::from(get(&edge, "/").await.status == 500);
    }
    assert_eq!(errors, 5, "as many as are allowed in a row");
    for _ in 0..10 {
        assert_eq!(get(&edge, "/").await.from(), "good");
    }
    bad.does(Does::Answer);
    until("it is back", || up_count(&edge) == 2).await;
    let before = bad.count();
    get(&edge, "/").await;
    get(&edge, "/").await;
    assert!(bad.count() > before);
}

#[tokio::test]
async fn a_full_queue_is_an_orderly_answer_and_ejects_nobody() {
    let (full, good) = (Instance::start("full").await, Instance::start("good").await);
    full.does(Does::Status(503));
    let edge = Edge::new(unchecked(&[&full, &good])).unwrap();
    for _ in 0..50 {
        get(&edge, "/").await;
    }
    assert_eq!(up_count(&edge), 2);
}

#[tokio::test]
async fn an_instance_that_grows_slow_is_ejected() {
    let (slow, quick) = (Instance::start("slow").await, Instance::start("quick").await);
    let mut options = checked(vec![slow.options("a"), quick.options("a")]);
    options.health.window_ms = 100;
    options.health.window_answers_min = 3;
    options.health.slow_windows = 2;
    options.health.slow_ms = 10;
    // Slow, not failing: so that the balance alone does not keep all requests from it.
    options.balance.latency_floor_us = 1_000_000;
    let edge = running(options, 2).await;
    slow.does(Does::Slow(Duration::from_millis(40)));
    let began = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    while standing(&edge, "slow") != Standing::Ejected(EjectionCause::Slow) {
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", edge.status());
        while asking.len() < 8 {
            let edge = edge.clone();
            asking.spawn(async move { get(&edge, "/").await.status });
        }
        asking.join_next().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn where_none_is_healthy_all_are_asked() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    let edge = running(checked(vec![one.options("a"), two.options("b")]), 2).await;
    one.is_ready(false);
    two.is_ready(false);
    until("both are down", || up_count(&edge) == 0).await;
    for _ in 0..10 {
        assert_eq!(get(&edge, "/").await.status, 200);
    }
    assert!(one.count() > 0 && two.count() > 0);
    assert!(edge.metrics().contains("inlet_edge_failing_open 1\n"));
}

#[tokio::test]
async fn never_more_than_a_share_is_ejected() {
    let mut instances = Vec::new();
    for id in ["one", "two", "three", "four"] {
        instances.push(Instance::start(id).await);
    }
    instances.iter().for_each(|instance| instance.does(Does::Status(500)));
    let all: Vec<&Instance> = instances.iter().collect();
    let edge = Edge::new(unchecked(&all)).unwrap();
    for _ in 0..100 {
        assert_eq!(get(&edge, "/").await.status, 500);
    }
    assert_eq!(up_count(&edge), 2);
    let single = Edge::new(unchecked(&all[..1])).unwrap();
    for _ in 0..100 {
        get(&single, "/").await;
    }
    assert_eq!(up_count(&single), 1, "the last one is never ejected");
}

#[tokio::test]
async fn an_instance_that_drains_finishes_what_it_has_and_gets_no_more() {
    let (old, new) = (Instance::start("old").await, Instance::start("new").await);
    let edge = Edge::new(unchecked(&[&old])).unwrap();
    old.does(Does::Slow(Duration::from_millis(100)));
    let asking = tokio::spawn({
        let edge = edge.clone();
        async move { post(&edge, "/api/save", "{}").await }
    });
    until("it is asked", || old.count() == 1).await;
    edge.set_backends(vec![old.options("a"), new.options("a")]).unwrap();
    assert!(edge.drain("old"));
    assert!(!edge.drain("nobody"));
    for _ in 0..10 {
        assert_eq!(get(&edge, "/").await.from(), "new");
    }
    assert_eq!(asking.await.unwrap().from(), "old");
    assert_eq!(edge.status()[0].outstanding, 0);
    edge.set_backends(vec![new.options("a")]).unwrap();
    assert_eq!(edge.status().len(), 1);
    assert_eq!(edge.status()[0].requests, 10, "what is known of one that stays is kept");
}

#[tokio::test]
async fn two_backends_of_one_id_are_refused_and_nothing_changes() {
    let one = Instance::start("one").await;
    let edge = Edge::new(unchecked(&[&one])).unwrap();
    let error = edge.set_backends(vec![one.options("a"), one.options("b")]).unwrap_err();
    assert_eq!(error.to_string(), "there are two backends `one`");
    assert_eq!(edge.status().len(), 1);
}
