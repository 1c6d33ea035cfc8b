//! A small HTTP proxy before an emulator of Amazon's services, which a test tells to be away, to
//! hang, to answer by itself, or to lose an answer.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::Value;

/// What the proxy does with a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Passes it on.
    Forward,
    /// Passes it on and loses the answer.
    Swallow,
    /// Answers with this status and JSON.
    Answer(u16, Value),
    /// Answers with this status and an XML error of S3 with this code.
    S3Error(u16, &'static str),
    /// Closes the connection.
    Close,
    /// Does not answer before the rule is another one; the connection is closed then.
    Hang,
}

type Rule = Box<dyn FnMut(&str, &Value) -> Act + Send>;

/// A proxy before the server on a port of this machine.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: u16,
    rule: Mutex<(u64, Rule)>,
    changed: Condvar,
}

impl Proxy {
    /// Passes everything on to the port `upstream`, until it is told otherwise.
    ///
    /// # Panics
    /// Where there is no free port.
    pub fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let rule: Rule = Box::new(|_, _| Act::Forward);
        let shared =
            Arc::new(Shared { upstream, rule: Mutex::new((0, rule)), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // A client that went away is no fault of the proxy's.
                thread::spawn(move || serve(stream, &shared).ok());
            }
        });
        Self { port, shared }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on it does with each request what `rule` says of its operation and its input: the
    /// target (`AmazonSQS.SendMessageBatch`) and the JSON, or for S3 the method and the path
    /// (`PUT /bucket/key`) and null.
    pub fn rule(&self, rule: impl FnMut(&str, &Value) -> Act + Send + 'static) {
        let mut current = self.shared.rule();
        *current = (current.0 + 1, Box::new(rule));
        self.shared.changed.notify_all();
    }

    /// Does the same with every request.
    pub fn always(&self, act: Act) {
        self.rule(move |_, _| act.clone());
    }

    /// Is away, or is there again.
    pub fn set_away(&self, away: bool) {
        self.always(if away { Act::Close } else { Act::Forward });
    }
}

impl Shared {
    fn rule(&self) -> MutexGuard<'_, (u64, Rule)> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_another_rule(&self) {
        let rule = self.rule();
        let before = rule.0;
        let waited = self.changed.wait_while(rule, |rule| rule.0 == before);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    while let Some(request) = Message::read(&mut reader, Some(&mut client))? {
        let input = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let act = (shared.rule().1)(&request.operation, &input);
        match act {
            Act::Forward => client.write_all(&request.exchange(shared.upstream)?.bytes)?,
            Act::Swallow => return request.exchange(shared.upstream).map(drop),
            Act::Close => return Ok(()),
            Act::Hang => {
                shared.wait_for_another_rule();
                return Ok(());
            }
            Act::Answer(status, value) => {
                answer(&mut client, status, "application/x-amz-json-1.0", &value.to_string())?;
            }
            Act::S3Error(status, code) => {
                let body = format!("<Error><Code>{code}</Code><Message>told</Message></Error>");
                let body = if request.is_head { String::new() } else { body };
                answer(&mut client, status, "application/xml", &body)?;
            }
        }
    }
    Ok(())
}

fn answer(client: &mut TcpStream, status: u16, kind: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Told\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    );
    client.write_all(format!("{head}{body}").as_bytes())
}

/// A request or an answer, as it goes over the wire.
pub struct Message {
    operation: String,
    is_head: bool,
    bytes: Vec<u8>,
    body_at: usize,
}

impl Message {
    /// A request for an operation of a service that speaks JSON, as any client makes it; nothing
    /// is signed.
    pub fn json(operation: &str, input: &Value) -> Self {
        let service = if operation.starts_with("AmazonSQS") { "sqs" } else { "dynamodb" };
        let body = input.to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {service}.us-east-1.amazonaws.com\r\n\
             content-type: application/x-amz-json-1.0\r\nx-amz-target: {operation}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/{service}/\
             aws4_request, SignedHeaders=host, Signature=0\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let (body_at, operation) = (head.len(), operation.to_owned());
        Self { operation, is_head: false, bytes: (head + &body).into_bytes(), body_at }
    }

    /// Sends it on a connection of its own, and gives the answer.
    ///
    /// # Errors
    /// Where the server is away or says nothing.
    pub fn exchange(&self, port: u16) -> io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(&self.bytes)?;
        let mut reader = BufReader::new(stream);
        let answer = if self.is_head {
            Self::read_head(&mut reader).map(|head| head.map(|(head, _)| head))
        } else {
            Self::read(&mut reader, None)
        };
        answer?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// The status of an answer; 0 of a request.
    pub fn status(&self) -> u16 {
        let line = String::from_utf8_lossy(&self.bytes[..self.body_at]);
        line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }

    /// The next message of a connection; `None` at its end. A client that waits to be told to go
    /// on is told so through `client`.
    fn read(reader: &mut impl BufRead, client: Option<&mut TcpStream>) -> io::Result<Option<Self>> {
        let Some((mut message, head)) = Self::read_head(reader)? else { return Ok(None) };
        if let (true, Some(client)) = (head.expects, client) {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if head.is_chunked {
            let mut line = String::new();
            loop {
                line.clear();
                reader.read_line(&mut line)?;
                message.bytes.extend_from_slice(line.as_bytes());
                let size = line.trim().split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
                let begin = message.bytes.len();
                message.bytes.resize(begin + size + 2, 0);
                reader.read_exact(&mut message.bytes[begin..])?;
                if size == 0 {
                    break;
                }
            }
        } else {
            message.bytes.resize(message.body_at + head.length, 0);
            reader.read_exact(&mut message.bytes[message.body_at..])?;
        }
        Ok(Some(message))
    }

    fn read_head(reader: &mut impl BufRead) -> io::Result<Option<(Self, Head)>> {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (is_head, mut operation) = (method == "HEAD", format!("{method} {path}"));
        let (mut bytes, mut head) = (first.clone().into_bytes(), Head::default());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "x-amz-target" => operation = value.trim().to_owned(),
                "content-length" => head.length = value.trim().parse().unwrap_or(0),
                "transfer-encoding" => head.is_chunked = true,
                "expect" => {
                    head.expects = true;
                    continue;
                }
                _ => {}
            }
            bytes.extend_from_slice(line.as_bytes());
            if line == "\r\n" {
                break;
            }
        }
        let body_at = bytes.len();
        Ok(Some((Self { operation, is_head, bytes, body_at }, head)))
    }
}

#[derive(Default)]
struct Head {
    length: usize,
    is_chunked: bool,
    expects: bool,
}
