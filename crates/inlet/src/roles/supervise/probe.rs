//! Asking an instance on this machine, over a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 << 10;

/// The status and the body that `address` answers to `GET path`; `None` where it does not answer
/// within `timeout`.
pub(super) async fn get(
    address: SocketAddr,
    path: &str,
    timeout: Duration,
) -> Option<(u16, String)> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
        parse(&answer)
    };
    tokio::time::timeout(timeout, asking).await.ok().flatten()
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(answer).ok()? else { return None };
    Some((head.code?, String::from_utf8_lossy(&answer[length..]).into_owned()))
}

/// The value of the figure `name` without labels in a page of metrics.
pub(super) fn figure(page: &str, name: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    page.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_read_and_half_an_answer_is_none() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\nno room";
        assert_eq!(parse(answer), Some((503, "no room".to_owned())));
        assert_eq!(parse(&answer[..20]), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_figure_is_found_by_its_whole_name() {
        let page = "# TYPE q gauge\nq_max 7\nq 42\n";
        assert_eq!(figure(page, "q"), Some(42.0));
        assert_eq!(figure(page, "none"), None);
    }
}
