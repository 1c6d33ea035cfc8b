use bytes::Bytes;
use inlet_adapters::cache::RedisOptions;
use inlet_core::ports::Cache;

use super::{Fixture, patient, put_until_it_is_there};

#[tokio::test]
async fn what_was_removed_can_not_be_put_back_by_who_read_it_before() {
    let fixture = Fixture::new();
    let (ours, theirs) = (fixture.cache().await, fixture.cache().await);
    ours.put("a", Bytes::from("1")).await;
    assert_eq!(theirs.get("a").await, Some(Bytes::from("1")));
    theirs.remove("a").await;
    ours.put("a", Bytes::from("1")).await;
    assert_eq!(ours.get("a").await, None);
    assert_eq!(theirs.get("a").await, None);
}

#[tokio::test]
async fn a_removal_that_did_not_get_through_is_made_up_for_though_nobody_asks() {
    let fixture = Fixture::new();
    let (ours, theirs) = (fixture.cache().await, fixture.cache().await);
    for key in ["a", "b"] {
        ours.put(key, Bytes::from("1")).await;
    }
    let impatient = RedisOptions { call_ms: 20, ..patient() };
    let impatient = fixture.cache_with(impatient).await;
    fixture.0.lock().await.freeze();
    impatient.remove("a").await;
    assert_eq!(impatient.get("a").await, None, "what was removed is served");
    fixture.0.lock().await.thaw();
    while theirs.get("a").await.is_some() {}
    ours.put("a", Bytes::from("1")).await;
    assert_eq!(ours.get("a").await, None, "who read it before put it back");
    assert_eq!(theirs.get("b").await, Some(Bytes::from("1")), "only that key is gone");
    while impatient.get("b").await.is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn of_removals_without_number_everything_is_gone_and_nothing_is_put_for_a_while() {
    let fixture = Fixture::new();
    let theirs = fixture.cache_with(RedisOptions { removed_s: 1, ..patient() }).await;
    theirs.put("kept", Bytes::from("1")).await;
    let options = RedisOptions { call_ms: 20, removed_s: 1, ..patient() };
    let ours = fixture.cache_with(options).await;
    fixture.0.lock().await.freeze();
    for n in 0..1_100 {
        ours.remove(&format!("key-{n}")).await;
    }
    fixture.0.lock().await.thaw();
    while theirs.get("kept").await.is_some() {}
    theirs.put("late", Bytes::from("1")).await;
    assert_eq!(theirs.get("late").await, None, "the epoch is removed");
    put_until_it_is_there(&theirs, "kept", "2").await;
    assert_eq!(theirs.get("late").await, None);
}

#[tokio::test]
async fn a_server_that_starts_again_from_a_snapshot_brings_back_nothing_that_was_removed() {
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    for key in ["a", "b"] {
        cache.put(key, Bytes::from("1")).await;
    }
    fixture.tell::<()>(&["SAVE"]).await;
    cache.remove("a").await;
    {
        let mut server = fixture.0.lock().await;
        server.stop(true);
        server.resume_or_start();
    }
    assert_eq!(fixture.keys("inlet:entry:*").await.len(), 2, "the snapshot has them");
    let newcomer = fixture.cache().await;
    for key in ["a", "b"] {
        assert_eq!(newcomer.get(key).await, None);
    }
    put_until_it_is_there(&cache, "c", "1").await;
    for key in ["a", "b"] {
        assert_eq!(cache.get(key).await, None);
    }
}

#[tokio::test]
async fn an_epoch_that_was_evicted_takes_its_entries_with_it() {
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    cache.put("a", Bytes::from("1")).await;
    let epochs = fixture.keys("inlet:epoch:*").await;
    assert_eq!(epochs.len(), 1);
    fixture.tell::<()>(&["DEL", &epochs[0]]).await;
    assert_eq!(cache.get("a").await, None);
    put_until_it_is_there(&cache, "b", "2").await;
    assert_eq!(cache.get("a").await, None);
}

#[tokio::test]
async fn a_server_without_room_still_removes() {
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    cache.put("a", Bytes::from("1")).await;
    fixture.tell::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    fixture.tell::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    cache.put("b", Bytes::from("2")).await;
    assert_eq!(cache.get("b").await, None);
    assert_eq!(cache.get("a").await, Some(Bytes::from("1")), "that it is full stops no reading");
    cache.remove("a").await;
    assert_eq!(cache.get("a").await, None);
    assert!(fixture.keys("inlet:entry:*").await.is_empty());
}

#[tokio::test]
async fn a_value_that_is_too_large_does_not_undo_a_removal() {
    let fixture = Fixture::new();
    let cache = fixture.cache_with(RedisOptions { value_bytes_max: 8, ..patient() }).await;
    cache.put("a", Bytes::from("1")).await;
    cache.put("a", Bytes::from("much too large")).await;
    assert_eq!(cache.get("a").await, None);
    cache.remove("b").await;
    cache.put("b", Bytes::from("much too large")).await;
    cache.put("b", Bytes::from("1")).await;
    assert_eq!(cache.get("b").await, None);
}
