//! The settings of an SQS queue.

/// The settings of an [`SqsQueue`](super::SqsQueue).
#[derive(Debug, Clone)]
pub struct SqsOptions {
    /// How long a send may take in all, with its repetitions, in milliseconds; then it fails as
    /// [`FailureKind::Unavailable`](inlet_core::failure::FailureKind::Unavailable). Default 8,000.
    pub send_ms: u64,
    /// How many calls that send run at once. While one runs, less than a full batch waits for
    /// its end, so that calls are few when many documents come. Default 4.
    pub sends_max: usize,
    /// How many documents that wait to be sent go into one message, when more than 10 wait. 1
    /// gives each document a message of its own. Default 10.
    pub message_documents_max: usize,
    /// The most bytes of a message, and of a call's messages together. SQS's limit, and the
    /// default, is 1 MiB; a smaller limit of the queue goes before. Larger documents go to the
    /// bucket.
    pub message_bytes_max: usize,
    /// How many documents may wait to be sent in this process; beyond it a send is refused as
    /// [`FailureKind::Full`](inlet_core::failure::FailureKind::Full). Default 16,384.
    pub waiting_documents_max: usize,
    /// How many bytes of documents may wait to be sent. Default 64 MiB.
    pub waiting_bytes_max: usize,
    /// How long a call waits for messages, in seconds: 0 to 20. Default 20.
    pub poll_s: u16,
    /// How many calls receive at once when the queue is full of messages. With 1, messages come
    /// in the order in which SQS gives them. Default 4.
    pub polls_max: usize,
    /// How long a receive goes on gathering once it has a message, while calls come back full, in
    /// milliseconds. Default 100.
    pub gather_ms: u64,
    /// How long SQS keeps a message from other workers, in seconds; it is extended while the
    /// message is being worked on. Default `None`: as the queue says.
    pub visibility_s: Option<u32>,
    /// How often the dead-letter queue of the redrive policy is looked at, in milliseconds.
    /// Default 30,000.
    pub dead_letters_ms: u64,
    /// For how long [`Queue::depth`](inlet_core::ports::Queue::depth) may answer from memory, in
    /// milliseconds. Default 2,000.
    pub depth_ms: u64,
}

impl Default for SqsOptions {
    fn default() -> Self {
        Self {
            send_ms: 8_000,
            sends_max: 4,
            message_documents_max: 10,
            message_bytes_max: 1 << 20,
            waiting_documents_max: 16_384,
            waiting_bytes_max: 64 << 20,
            poll_s: 20,
            polls_max: 4,
            gather_ms: 100,
            visibility_s: None,
            dead_letters_ms: 30_000,
            depth_ms: 2_000,
        }
    }
}
