//! Memory that a direct write takes: aligned to a block, a whole number of blocks long.

use crate::segment::BLOCK_BYTES;

/// A growing run of bytes whose start is aligned to [`BLOCK_BYTES`].
///
/// The alignment comes from allocating a block more than is needed and starting at the first
/// aligned byte, which needs no unsafe code and costs at most 4095 bytes.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    capacity: usize,
    used: usize,
}

impl AlignedBuffer {
    /// An empty buffer that holds `bytes`, rounded up to whole blocks, before it grows.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let capacity = bytes.next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES);
        let memory = vec![0; capacity + BLOCK_BYTES - 1];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES, "a byte pointer can be aligned");
        Self { memory, start, capacity, used: 0 }
    }

    /// How many bytes are in it.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// How many bytes it holds before it grows.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// What is in it.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.used]
    }

    /// Adds `bytes` bytes at the end and gives them to be filled in; what they hold is undefined.
    pub(crate) fn grow(&mut self, bytes: usize) -> &mut [u8] {
        let used = self.used + bytes;
        if used > self.capacity {
            let mut larger = Self::with_capacity(used.max(self.capacity * 2));
            larger.memory[larger.start..larger.start + self.used].copy_from_slice(self.as_slice());
            larger.used = self.used;
            *self = larger;
        }
        let added = self.start + self.used..self.start + used;
        self.used = used;
        &mut self.memory[added]
    }

    /// Fills the last block with zeros.
    pub(crate) fn pad(&mut self) {
        let padding = self.used.next_multiple_of(BLOCK_BYTES) - self.used;
        self.grow(padding).fill(0);
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }
}
