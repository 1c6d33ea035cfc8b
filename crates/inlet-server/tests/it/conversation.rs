//! HTTP/1 as a client meets it. The clock stands still and jumps, so no test waits.

use std::time::Duration;

use inlet_server::Deadlines;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::echo::{Client, get, post};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_body_is_read_however_its_bytes_come_and_the_connection_is_used_again() {
    let mut client = Client::connect();
    let request = post("/", "hello");
    for cut in 0..request.len() {
        client.send(&request[..cut]).await;
        tokio::task::yield_now().await;
        client.send(&request[cut..]).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.body.as_str()), (200, "hello"), "cut at {cut}");
        assert_eq!(answer.header("connection"), None);
    }
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n";
    for cut in 0..chunked.len() {
        client.send(&chunked[..cut]).await;
        tokio::task::yield_now().await;
        client.send(&chunked[cut..]).await;
        assert_eq!(client.answer().await.body, "hello", "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_together_are_answered_in_their_order() {
    let mut client = Client::connect();
    let bodies: Vec<String> = (0..200).map(|number| format!("number {number}")).collect();
    let all: String = bodies.iter().map(|body| post("/", body)).collect();
    client.send(all).await;
    for body in &bodies {
        assert_eq!(client.answer().await.body, *body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_does_not_hold_back_the_answers_before_it() {
    let mut client = Client::connect();
    client.send(get("/1") + &get("/wait") + &get("/2")).await;
    assert_eq!(client.answer().await.status(), 200);
    client.service.gate.notify_one();
    assert_eq!(client.answer().await.body, "waited");
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_have_none_and_head_tells_the_length() {
    let mut client = Client::connect();
    for (path, status, length) in [("/204", 204, None), ("/304", 304, None), ("/", 200, Some("0"))]
    {
        client.send(get(path)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.header("content-length")), (status, length));
    }
    client.send("HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.answer_to("HEAD").await;
    assert_eq!(answer.header("content-length"), Some("1048576"));
    client.send("HEAD /chunks HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.answer_to("HEAD").await;
    assert_eq!(answer.header("content-length").or(answer.header("transfer-encoding")), None);
    client.send(get("/chunks")).await;
    assert_eq!(client.answer().await.body, "abc");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_unknown_length_is_chunked_or_ends_with_the_connection() {
    let mut client = Client::connect();
    client.send(get("/chunks")).await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.header("transfer-encoding"), answer.body.as_str()),
        (Some("chunked"), "abc")
    );
    client.send("GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let rest = client.rest().await;
    let (head, body) = rest.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 ") && head.contains("connection: close"), "{head}");
    assert_eq!(body, "abc");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_seen_to() {
    for path in ["/broken", "/short"] {
        let mut client = Client::connect();
        client.send(get(path) + &get("/")).await;
        let rest = client.rest().await;
        assert!(!rest.ends_with("0\r\n\r\n"), "{path} seems whole: {rest:?}");
        assert_eq!(rest.matches("HTTP/1.1").count(), 1, "{rest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_to_send_its_body_once_it_is_asked_for() {
    let expects = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut client = Client::connect();
    client.send(expects("/")).await;
    assert_eq!(client.answer().await.status(), 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.body, "hello");
    // One that does not wait is not told.
    client.send(expects("/") + "hello").await;
    assert_eq!(client.answer().await.body, "hello");
    // One that is refused is not told, and can't be trusted not to send it.
    client.send(expects("/refuse")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.header("connection")), (401, Some("close")));
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_its_side_gets_its_answers() {
    let mut client = Client::connect();
    client.send(post("/", "one") + &get("/wait")).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.answer().await.body, "one");
    client.service.gate.notify_one();
    assert_eq!(client.answer().await.body, "waited");
    assert_eq!(client.rest().await, "");
    // In the middle of a body it is told what is wrong, in the middle of a head it is not.
    let mut client = Client::connect();
    let request = post("/", "hello");
    client.send(&request[..request.len() - 2]).await;
    client.stream.shutdown().await.unwrap();
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.body.as_str()), (400, "the body broke off"));
    let mut client = Client::connect();
    client.send(get("/") + "GET / HT").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(client.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_not_made() {
    let mut client = Client::connect();
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n";
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n") + &get("/")).await;
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_is_sent_whole_through_a_small_pipe() {
    let mut client = Client::with(Deadlines::default(), 7);
    let requests = get("/large") + &get("/chunks") + &post("/", "end");
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let sending = tokio::spawn(async move {
        writer.write_all(requests.as_bytes()).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut all = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut all).await.unwrap();
    sending.await.unwrap();
    let all = String::from_utf8(all).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 3);
    assert!(all.contains(&"x".repeat(1 << 20)) && all.ends_with("\r\n\r\nend"));
    client.serving = tokio::spawn(async {});
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_read_in_another_task_than_the_connections() {
    let mut client = Client::with(Deadlines::default(), 1_000);
    client.send(post("/hand-on", &"x".repeat(100_000))).await;
    assert_eq!(client.answer().await.body, "Ok(100000)");
    client.send("POST /hand-on HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await;
    assert_eq!(client.answer().await.body, "Err(Late)");
    assert_eq!(client.service.handed_on.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_service_can_close_the_connection_after_its_answer() {
    let mut client = Client::connect();
    client.send(get("/close") + &get("/")).await;
    let answer = client.answer().await;
    assert_eq!((answer.body.as_str(), answer.header("connection")), ("closing", Some("close")));
    assert_eq!(client.rest().await, "");
    assert_eq!(client.service.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_small_rest_of_a_body_that_nobody_reads_is_read_past() {
    let mut client = Client::connect();
    let request = post("/refuse", "hello");
    client.send(&request[..request.len() - 5]).await;
    tokio::task::yield_now().await;
    client.send(String::from("hello") + &get("/")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.header("connection")), (401, None));
    assert_eq!(client.answer().await.status(), 200);
    // If it does not come, or is large, the client is told not to use the connection again.
    let large = format!("POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1 << 20);
    for (request, seconds) in [(request[..request.len() - 1].to_owned(), 1), (large, 0)] {
        let mut client = Client::connect();
        let begun = Instant::now();
        client.send(request).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.header("connection")), (401, Some("close")));
        assert_eq!(begun.elapsed().as_secs(), seconds);
    }
}

// ---- deadlines ----

/// The seconds until the server closes, and the text that it sends.
async fn until_closed(client: &mut Client) -> (u64, String) {
    let begun = Instant::now();
    let rest = client.rest().await;
    (begun.elapsed().as_secs(), rest)
}

#[tokio::test(start_paused = true)]
async fn silence_is_borne_longer_between_requests_than_before_the_first() {
    let mut client = Client::connect();
    assert_eq!(until_closed(&mut client).await, (10, String::new()));
    assert_eq!(client.service.counters.figures()[3].value, 1, "timed out");
    let mut client = Client::connect();
    for _ in 0..3 {
        client.send(get("/")).await;
        assert_eq!(client.answer().await.status(), 200);
        tokio::time::sleep(600 * SECOND).await;
    }
    assert_eq!(until_closed(&mut client).await, (20, String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_head_has_ten_seconds_in_all() {
    let mut client = Client::connect();
    client.send(get("/")).await;
    assert_eq!(client.answer().await.status(), 200);
    let begun = Instant::now();
    for byte in get("/").into_bytes() {
        tokio::time::sleep(SECOND).await;
        if client.stream.write_all(&[byte]).await.is_err() {
            break;
        }
        if begun.elapsed() > 11 * SECOND {
            break;
        }
    }
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.header("connection")), (408, Some("close")));
    assert_eq!(begun.elapsed().as_secs(), 12, "the first byte came after one");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_too_slowly_breaks_off() {
    let mut client = Client::connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n").await;
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < 40 * SECOND && client.stream.write_all(b"x").await.is_ok() {
        sent += 1;
        tokio::time::sleep(SECOND).await;
        if sent == 31 {
            break;
        }
    }
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.body.as_str()), (400, "the body came too slowly"));
    assert!((30..=32).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up() {
    let client = Client::with(Deadlines::default(), 1_000);
    let Client { mut stream, serving, service, .. } = client;
    stream.write_all(get("/large").as_bytes()).await.unwrap();
    let begun = Instant::now();
    serving.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!(service.counters.figures()[3].value, 1, "timed out");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_long_is_waited_for() {
    let mut client = Client::connect();
    client.send(get("/wait")).await;
    tokio::time::sleep(7_200 * SECOND).await;
    client.service.gate.notify_one();
    assert_eq!(client.answer().await.body, "waited");
}

// ---- the end ----

#[tokio::test(start_paused = true)]
async fn what_a_refused_client_still_sends_is_read_past_for_two_seconds_and_no_longer() {
    for request in
        ["GET / HTTP/9\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n"]
    {
        let mut client = Client::connect();
        let begun = Instant::now();
        client.send(request).await;
        assert_eq!(client.answer().await.status(), 400);
        // Each byte would make the time begin anew if it were counted from the last.
        while begun.elapsed() < 5 * SECOND && client.stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SECOND / 10).await;
        }
        assert_eq!(begun.elapsed().as_secs(), 2, "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_body_is_refused_does_not_hold_a_stop() {
    // One byte of a large body came, and more comes now and then.
    let mut client = Client::connect();
    let large = format!("POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1 << 20);
    client.send(large + "x").await;
    assert_eq!(client.answer().await.status(), 401);
    client.shutdown.begin();
    let begun = Instant::now();
    let Client { mut stream, serving, .. } = client;
    let dribble = tokio::spawn(async move {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SECOND / 4).await;
        }
    });
    serving.await.unwrap();
    assert!(begun.elapsed() <= 3 * SECOND, "{:?}", begun.elapsed());
    dribble.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_was_asked_and_waits_a_second_for_what_is_about_to_be() {
    let mut busy = Client::connect();
    busy.send(get("/wait")).await;
    let mut idle = Client::connect();
    idle.send(get("/")).await;
    assert_eq!(idle.answer().await.status(), 200);
    let mut silent = Client::connect();
    let mut begun = Client::connect();
    begun.send("GET / HT").await;
    let mut late = Client::connect();
    tokio::task::yield_now().await;
    for client in [&busy, &idle, &silent, &begun, &late] {
        client.shutdown.begin();
    }
    assert_eq!(until_closed(&mut idle).await, (0, String::new()));
    late.send(get("/")).await;
    let answer = late.answer().await;
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    assert_eq!(until_closed(&mut silent).await.0, 1);
    assert_eq!(until_closed(&mut begun).await, (0, String::new()), "a second has gone already");
    busy.service.gate.notify_one();
    let answer = busy.answer().await;
    assert_eq!((answer.body.as_str(), answer.header("connection")), ("waited", Some("close")));
    timeout(SECOND, busy.serving).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_has_one_deadline_for_what_does_not_finish() {
    let mut client = Client::connect();
    client.send(get("/wait")).await;
    tokio::task::yield_now().await;
    client.shutdown.begin();
    let begun = Instant::now();
    client.serving.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 30);
}
