//! Instances that share a store, and erase and send under one key: no order rests on their clocks,
//! and none of them serves what another erased.

use super::servers::{POSTGRES, start};
use crate::disk::clock::{library, start_with_clock};
use crate::server::{Answer, Server};

const KEY: [(&str, &str); 1] = [("Idempotency-Key", "consent-1")];

fn state(server: &Server, id: &str) -> String {
    let receipt = server.get(&format!("/api/receipts/{id}"));
    receipt.json()["state"].as_str().unwrap_or_default().to_owned()
}

/// Both instances have the document with that body in their caches, and its receipt was asked for.
fn is_read(servers: [&Server; 2], id: &str, body: &str) {
    for server in servers {
        server.wait_until_stored(id);
        for _ in 0..2 {
            let found = server.get(&format!("/api/documents/{id}"));
            assert_eq!((found.status, found.text().as_str()), (200, body));
        }
    }
}

/// Nothing of it is at either instance.
fn is_gone(servers: [&Server; 2], id: &str) {
    for server in servers {
        assert_eq!(server.get(&format!("/api/documents/{id}")).status, 404);
        assert_eq!(server.get(&format!("/api/receipts/{id}")).status, 404);
    }
}

#[test]
fn two_instances_whose_clocks_differ_by_ten_seconds_agree_on_what_is_erased() {
    let Some(library) = library() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = POSTGRES.database();
    let at = |name: &str, clock: &str| {
        start_with_clock(&directory.path().join(name), &library, clock, &["--store", &url])
    };
    let (ahead, behind) = (at("ahead", "+5s"), at("behind", "-5s"));
    let both = [&ahead, &behind];
    let mut n = 0;
    let mut id = String::new();
    // Each erases what the other took, and takes what the other erased, as often as there is room
    // for a mistake: the mark of one erasure is there when the next comes.
    for (takes, erases) in [
        (&ahead, &behind),
        (&behind, &ahead),
        (&ahead, &ahead),
        (&behind, &behind),
        (&ahead, &behind),
    ] {
        n += 1;
        let body = format!("{{\"n\":{n}}}");
        let taken = takes.post("/api/save", &KEY, body.as_bytes());
        assert_eq!(taken.status, 202, "{n}: the key is free again: {}", taken.text());
        assert!(!taken.headers.contains_key("idempotency-replayed"), "{n}: it is no repeat");
        id = taken.json()["MessageId"].as_str().unwrap().to_owned();
        is_read(both, &id, &body);
        assert_eq!(erases.delete(&format!("/api/documents/{id}")).status, 204);
        is_gone(both, &id);
    }
    // The last one is taken by who did not erase, at once.
    assert_eq!(behind.post("/api/save", &KEY, b"[1]").status, 202);
    is_read(both, &id, "[1]");
    for server in both {
        assert_eq!(state(server, &id), "stored");
        let letters = server.get("/api/dead-letters").json();
        assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 0, "{letters}");
    }
}

#[test]
fn the_loser_of_a_key_conflict_over_two_instances_learns_it_from_its_receipt() {
    let directory = tempfile::tempdir().unwrap();
    let url = POSTGRES.database();
    let at = |name: &str| start("up", &directory.path().join(name), &["--store", &url], Vec::new());
    let servers = [at("one"), at("other")];
    // Each gets its own number as the body.
    let send = |n: u32, server: usize| -> Answer {
        let (key, body) = (format!("k{n}"), server.to_string());
        servers[server].post("/api/save", &[("Idempotency-Key", &key)], body.as_bytes())
    };
    // Until neither sees the document of the other before it takes its own.
    let receipts = (0..1_000).find_map(|n| {
        let send = &send;
        let both = std::thread::scope(|scope| {
            let sending = [0, 1].map(|server| scope.spawn(move || send(n, server)));
            sending.map(|sent| sent.join().unwrap())
        });
        both.iter().all(|answer| answer.status == 202).then(|| both.map(|it| it.json()))
    });
    let receipts = receipts.expect("two instances take one key at the same time");
    let id = receipts[0]["MessageId"].as_str().unwrap();
    assert_eq!(receipts[1]["MessageId"], id);
    let path = format!("/api/receipts/{id}");
    crate::server::until("the conflict is known", || {
        servers[0].get(&path).json()["conflicts"].as_u64() == Some(1)
    });
    let receipt = servers[0].get(&path).json();
    assert_eq!(servers[1].get(&path).json(), receipt);
    let winner = usize::from(receipt["md5"] != receipts[0]["MD5OfMessageBody"]);
    assert_eq!(receipt["md5"], receipts[winner]["MD5OfMessageBody"], "the MD5 of what is stored");
    let page = servers[0].get(receipt["dead_letters"].as_str().unwrap()).json();
    let letter = &page["dead_letters"][0];
    assert_eq!(letter["body"], (1 - winner).to_string().as_str(), "{page}");
    assert_eq!(letter["cause"], "key_conflict");
}
