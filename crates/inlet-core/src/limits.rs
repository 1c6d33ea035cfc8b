//! A limit on everything: the figures that bound what one request, batch or document may cost.

/// The limits of a running instance. [`Limits::default`] is what a start without settings uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest document, in bytes, after content decoding. Default 1 MiB.
    pub body_bytes_max: usize,
    /// The deepest nesting of arrays and objects in a document. Default 128.
    pub depth_max: usize,
    /// The largest batch request, in bytes, after content decoding. Default 16 MiB.
    pub batch_bytes_max: usize,
    /// The most documents in a batch request. Default 10,000.
    pub batch_documents_max: usize,
    /// How many streams one token may begin. Default 1,000.
    pub streams_max: usize,
    /// How many streams there may be, whoever began them. Default 10,000. `default` is always
    /// open.
    pub streams_total_max: usize,
    /// The memory that bodies in flight may take in the whole process, in bytes. Default 256 MiB;
    /// a server chooses it by the memory of the machine.
    pub bodies_bytes_max: usize,
    /// The most documents or dead letters on a page. Default 1,000.
    pub page_documents_max: usize,
    /// How often a document the store refuses is tried before it becomes a dead letter.
    /// Default 3.
    pub attempts_max: u32,
    /// The most documents persisted in one transaction. Default 4,096.
    pub persist_documents_max: usize,
    /// The most bytes of documents persisted in one transaction. Default 8 MiB.
    pub persist_bytes_max: usize,
    /// The largest file, in bytes. Default 5 TiB, as S3 has it.
    pub file_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            depth_max: 128,
            batch_bytes_max: 16 << 20,
            batch_documents_max: 10_000,
            streams_max: 1_000,
            streams_total_max: 10_000,
            bodies_bytes_max: 256 << 20,
            page_documents_max: 1_000,
            attempts_max: 3,
            persist_documents_max: 4_096,
            persist_bytes_max: 8 << 20,
            file_bytes_max: 5 << 40,
        }
    }
}
