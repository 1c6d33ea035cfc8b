//! Placeholder until the checked one lands.
use std::ops::Range;
/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonFault;
impl std::fmt::Display for JsonFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it is not valid")
    }
}
/// Checks.
pub fn check(bytes: &[u8], _depth_max: usize) -> Result<(), JsonFault> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map(|_| ()).map_err(|_| JsonFault)
}
/// Lines.
pub fn lines(_bytes: &[u8]) -> Vec<Range<usize>> {
    Vec::new()
}
/// Elements.
pub fn split_array(_bytes: &[u8]) -> Result<Vec<Range<usize>>, JsonFault> {
    Ok(Vec::new())
}
