//! The emulator of Amazon's services, as a client sees it that knows nothing of ours; and a proxy
//! before it that can be told to be away, to answer by itself, or to tell what passed.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use inlet_adapters::aws::Aws;
use inlet_testkit::server::{Server, ServerKind};
use serde_json::{Value, json};

static MOTO: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::Moto));

/// The port of the emulator that all tests share.
pub(crate) fn port() -> u16 {
    MOTO.port()
}

/// Amazon's services at that port.
pub(crate) async fn aws_at(port: u16) -> Aws {
    Aws::at(&format!("http://127.0.0.1:{port}"), "test", "test").await
}

/// A name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Calls an operation (`AmazonSQS.CreateQueue`) and gives its answer.
pub(crate) fn call(port: u16, operation: &str, input: &Value) -> Value {
    let (status, answer) = try_call(port, operation, input);
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

fn try_call(port: u16, operation: &str, input: &Value) -> (u16, Value) {
    let request = Request::new(operation, input);
    let answer = request.exchange(port).unwrap();
    let body = &answer.bytes[answer.body_at..];
    (answer.status(), serde_json::from_slice(body).unwrap_or(Value::Null))
}

/// What a proxy does with a request.
pub(crate) enum Act {
    /// Passes it on.
    Forward,
    /// Passes it on and loses the answer.
    Swallow,
    /// Answers with this status and JSON.
    Answer(u16, Value),
    /// Closes the connection.
    Close,
}

type Rule = Box<dyn FnMut(&str, &Value) -> Act + Send>;

/// A proxy before the emulator.
pub(crate) struct Proxy {
    port: u16,
    rule: Arc<Mutex<Rule>>,
}

impl Proxy {
    /// Passes everything on, until it is told otherwise.
    pub(crate) fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_, _| Act::Forward)));
        let rules = Arc::clone(&rule);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let rule = Arc::clone(&rules);
                // A client that went away is no fault of the proxy's.
                thread::spawn(move || serve(stream, upstream, &rule).ok());
            }
        });
        Self { port, rule }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on it does with each request (operation, input) what `rule` says.
    pub(crate) fn rule(&self, rule: impl FnMut(&str, &Value) -> Act + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// Is away, or is there again.
    pub(crate) fn set_away(&self, away: bool) {
        self.rule(move |_, _| if away { Act::Close } else { Act::Forward });
    }
}

fn serve(mut client: TcpStream, upstream: u16, rule: &Mutex<Rule>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    while let Some(request) = Request::read(&mut reader)? {
        let input = serde_json::from_slice(&request.bytes[request.body_at..]);
        let act = (rule.lock().unwrap())(&request.operation, &input.unwrap_or(Value::Null));
        match act {
            Act::Forward => client.write_all(&request.exchange(upstream)?.bytes)?,
            Act::Swallow => return request.exchange(upstream).map(drop),
            Act::Close => return Ok(()),
            Act::Answer(status, value) => {
                let body = value.to_string();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} Told\r\ncontent-type: application/x-amz-json-1.0\r\n\
                     content-length: {length}\r\n\r\n"
                );
                client.write_all(format!("{head}{body}").as_bytes())?;
            }
        }
    }
    Ok(())
}

/// A request or an answer, as it goes over the wire.
struct Request {
    operation: String,
    bytes: Vec<u8>,
    body_at: usize,
}

impl Request {
    fn new(operation: &str, input: &Value) -> Self {
        let service = if operation.starts_with("AmazonSQS") { "sqs" } else { "dynamodb" };
        let body = input.to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {service}.us-east-1.amazonaws.com\r\n\
             content-type: application/x-amz-json-1.0\r\nx-amz-target: {operation}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/{service}/\
             aws4_request, SignedHeaders=host, Signature=0\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let body_at = head.len();
        Self { operation: operation.to_owned(), bytes: (head + &body).into_bytes(), body_at }
    }

    /// The next message of a connection; `None` at its end.
    fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let (mut bytes, mut operation, mut length) = (Vec::new(), String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            bytes.extend_from_slice(line.as_bytes());
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "x-amz-target" => operation = value.trim().to_owned(),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
            if line == "\r\n" {
                break;
            }
        }
        let body_at = bytes.len();
        bytes.resize(body_at + length, 0);
        reader.read_exact(&mut bytes[body_at..])?;
        Ok(Some(Self { operation, bytes, body_at }))
    }

    /// Sends it on a connection of its own, and gives the answer.
    fn exchange(&self, port: u16) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(&self.bytes)?;
        let answer = Self::read(&mut BufReader::new(stream))?;
        answer.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
    }

    fn status(&self) -> u16 {
        let line = String::from_utf8_lossy(&self.bytes[..self.body_at]);
        line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

/// Makes a queue; its URL as the emulator knows it.
pub(crate) fn make_queue(name: &str, attributes: &Value) -> String {
    let input = json!({ "QueueName": name, "Attributes": attributes });
    let made = call(port(), "AmazonSQS.CreateQueue", &input);
    made["QueueUrl"].as_str().unwrap().to_owned()
}
