//! Placeholder until the real one lands.
use crate::rejection::Rejection;
use bytes::Bytes;
/// Encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// None.
    Identity,
}
impl Encoding {
    /// Reads.
    pub fn from_header(_value: Option<&str>) -> Result<Self, Rejection> {
        Ok(Self::Identity)
    }
}
/// Decodes.
pub fn decode(_encoding: Encoding, bytes: Bytes, _limit_bytes: usize) -> Result<Bytes, Rejection> {
    Ok(bytes)
}
