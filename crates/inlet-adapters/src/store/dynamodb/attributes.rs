//! Items and their attributes.

use std::collections::HashMap;
use std::str::FromStr;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use inlet_core::failure::{Failure, FailureKind};

/// An item, or its key.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The partition key.
pub(super) const PK: &str = "pk";
/// The sort key.
pub(super) const SK: &str = "sk";

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn binary(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// The key with these parts.
pub(super) fn key(pk: impl Into<String>, sk: impl Into<String>) -> Item {
    HashMap::from([(PK.to_owned(), text(pk)), (SK.to_owned(), text(sk))])
}

/// What names an item in a message.
pub(super) fn name(item: &Item) -> String {
    let part =
        |name| item.get(name).and_then(|value| value.as_s().ok()).map_or("?", String::as_str);
    format!("{}/{}", part(PK), part(SK))
}

pub(super) fn find_text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

pub(super) fn find_number<T: FromStr>(item: &Item, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

pub(super) fn find_binary<'a>(item: &'a Item, name: &str) -> Option<&'a [u8]> {
    item.get(name)?.as_b().ok().map(|blob| blob.as_ref())
}

/// What was read, which must be there: without it the item is not one of ours.
pub(super) fn must<T>(
    found: Option<T>,
    item: &Item,
    attribute: &'static str,
) -> Result<T, Failure> {
    found.ok_or_else(|| {
        Failure::new(FailureKind::Damaged, "read the item", name(item))
            .because(format!("its attribute `{attribute}` is not one that was ever written"))
            .hint("restore the table to a moment before, by its point-in-time recovery")
    })
}

/// A signed number as text of one length that sorts as the number does.
pub(super) fn sortable(value: i64) -> String {
    let biased = u64::from_ne_bytes((value ^ i64::MIN).to_ne_bytes());
    format!("{biased:020}")
}

/// The number that [`sortable`] made text of.
pub(super) fn from_sortable(text: &str) -> Option<i64> {
    let biased: u64 = text.parse().ok()?;
    Some(i64::from_ne_bytes(biased.to_ne_bytes()) ^ i64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_text() {
        let numbers = [i64::MIN, -5, -1, 0, 1, 9, 10, i64::MAX];
        let texts: Vec<String> = numbers.iter().map(|number| sortable(*number)).collect();
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(
            texts.iter().filter_map(|text| from_sortable(text)).collect::<Vec<_>>(),
            numbers
        );
    }
}
