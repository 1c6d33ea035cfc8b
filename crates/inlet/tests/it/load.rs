//! Requests without a pause, on connections that are kept, and what became of them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::server::{TOKEN, until};

/// A load of requests that may be sent again: `GET /`, and documents, with keys or, to an edge
/// that mints their ids, without.
pub(crate) struct Load {
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    answers: AtomicU64,
    /// Documents among them.
    documents: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Begins it on two connections.
    pub(crate) fn start(address: &str) -> Self {
        Self::begin(address, true)
    }

    /// Begins it on two connections, with documents that have no keys.
    pub(crate) fn start_without_keys(address: &str) -> Self {
        Self::begin(address, false)
    }

    fn begin(address: &str, has_keys: bool) -> Self {
        let shared = Arc::<Shared>::default();
        let senders = (0..2)
            .map(|sender| {
                let (address, shared) = (address.to_owned(), Arc::clone(&shared));
                std::thread::spawn(move || send(&address, sender, has_keys, &shared))
            })
            .collect();
        Self { shared, senders }
    }

    /// Waits until there were so many more answers.
    pub(crate) fn wait_for(&self, more: u64) {
        let begun = self.shared.answers.load(Ordering::Relaxed);
        until("there were more answers", || {
            self.shared.answers.load(Ordering::Relaxed) >= begun + more
                || self.senders.iter().all(JoinHandle::is_finished)
        });
    }

    /// Ends it, and gives the number of documents. Every request must have been answered with
    /// success, on its first connection.
    pub(crate) fn finish_without_failure(self) -> u64 {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.senders.into_iter().for_each(|sender| sender.join().unwrap());
        let answers = self.shared.answers.load(Ordering::Relaxed);
        let failures = self.shared.failures.lock().unwrap();
        assert!(failures.is_empty(), "after {answers} answers: {failures:#?}");
        assert!(answers > 0);
        self.shared.documents.load(Ordering::Relaxed)
    }
}

fn send(address: &str, sender: u32, has_keys: bool, shared: &Shared) {
    let stream = TcpStream::connect(address).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    for number in 0u64.. {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let request = if number % 2 == 0 {
            "GET / HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n".to_owned()
        } else {
            let body = format!("[{sender}, {number}]");
            let key = match has_keys {
                true => format!("Idempotency-Key: {sender}-{number}\r\n"),
                false => String::new(),
            };
            format!(
                "POST /api/save HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {TOKEN}\r\n\
                 Content-Type: application/json\r\n{key}\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let answered = writer.write_all(request.as_bytes()).map(|()| read_answer(&mut reader));
        match answered {
            Ok(Some((200..300, _))) => {
                shared.answers.fetch_add(1, Ordering::Relaxed);
                shared.documents.fetch_add(number % 2, Ordering::Relaxed);
            }
            other => {
                let failure = format!("{number} of {sender}: {other:?}");
                shared.failures.lock().unwrap().push(failure);
                return;
            }
        }
    }
}

/// The status and the body of an answer, or `None` where the connection broke before it was whole.
pub(crate) fn read_answer(reader: &mut impl BufRead) -> Option<(u16, String)> {
    let (mut status, mut length) = (String::new(), 0);
    reader.read_line(&mut status).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let status = status.split(' ').nth(1)?.parse().ok()?;
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}
