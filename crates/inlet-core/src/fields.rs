//! Placeholder until the real one lands.
/// A type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A string.
    String,
}
impl FieldType {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        "string"
    }
}
/// Counts.
#[derive(Debug, Default)]
pub struct FieldCounts;
impl FieldCounts {
    /// Counts.
    pub fn count(&mut self, _body: &[u8]) {}
    /// All.
    pub fn iter(&self) -> impl Iterator<Item = (&str, FieldType, u64)> {
        std::iter::empty()
    }
}
