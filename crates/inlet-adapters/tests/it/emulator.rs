//! The emulator of Amazon's services, as a client sees it that knows nothing of ours.

use std::sync::LazyLock;

use inlet_adapters::aws::Aws;
use inlet_testkit::proxy::Message;
pub(crate) use inlet_testkit::proxy::{Act, Proxy};
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
    let answer = Message::json(operation, input).exchange(port).unwrap();
    (answer.status(), serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
}

/// Makes a queue; its URL as the emulator knows it.
pub(crate) fn make_queue(name: &str, attributes: &Value) -> String {
    let input = json!({ "QueueName": name, "Attributes": attributes });
    let made = call(port(), "AmazonSQS.CreateQueue", &input);
    made["QueueUrl"].as_str().unwrap().to_owned()
}
