//! The runtime API, as Lambda serves it to a function's process.
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A function's process; ended when it is dropped.
pub(crate) struct Function {
    process: Child,
    listener: TcpListener,
    connection: Option<BufReader<TcpStream>>,
    invocations: u32,
}

struct Request {
    line: String,
    body: Vec<u8>,
}

impl Function {
    /// Starts the executable as the part `handler`.
    pub(crate) fn start(handler: &str, variables: &[(String, String)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_inlet-lambda"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("INLET_")) {
            command.env_remove(name);
        }
        let process = command
            .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr().unwrap().to_string())
            .env("_HANDLER", handler)
            .env("AWS_LAMBDA_FUNCTION_NAME", format!("inlet-{handler}"))
            .env("AWS_LAMBDA_FUNCTION_VERSION", "7")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, listener, connection: None, invocations: 0 }
    }

    /// Hands an event over and gives the answer, or the error that was reported for it.
    pub(crate) fn invoke(&mut self, event: &Value) -> Result<Value, Value> {
        let next = self.request();
        assert!(next.line.starts_with("GET /2018-06-01/runtime/invocation/next "), "{}", next.line);
        self.invocations += 1;
        let id = format!("invocation-{}", self.invocations);
        let body = event.to_string();
        self.answer(&format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
             Lambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: 4102444800000\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:1:function:f\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let done = self.request();
        self.answer("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
        let said: Value = serde_json::from_slice(&done.body).unwrap();
        if done.line.contains(&format!("/{id}/response ")) {
            return Ok(said);
        }
        assert!(done.line.contains(&format!("/{id}/error ")), "{}", done.line);
        Err(said)
    }

    /// The next request of the process, over the connection it keeps or a new one.
    fn request(&mut self) -> Request {
        loop {
            if self.connection.is_none() {
                let (stream, _) = self.listener.accept().unwrap();
                self.connection = Some(BufReader::new(stream));
            }
            match read(self.connection.as_mut().unwrap()) {
                Some(request) => return request,
                None => self.connection = None,
            }
        }
    }

    fn answer(&mut self, text: &str) {
        let stream = self.connection.as_mut().unwrap().get_mut();
        stream.write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        is_chunked |= header.starts_with("transfer-encoding:");
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    while is_chunked {
        let mut size = String::new();
        stream.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).unwrap();
        body.extend_from_slice(&chunk[..size]);
        is_chunked = size > 0;
    }
    Some(Request { line, body })
}
