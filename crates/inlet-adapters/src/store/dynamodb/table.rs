//! The calls to the table, each bounded in its repetitions.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, KeysAndAttributes, TransactWriteItem,
};
use inlet_core::failure::{Failure, FailureKind};

use super::attributes::{Item, PK, SK, text};
use crate::aws;

/// How many items one call reads by their keys.
const GET_KEYS_MAX: usize = 100;
/// How often what DynamoDB left out of an answer is asked for in all.
const ATTEMPTS_MAX: u32 = 8;
/// The pause before the second attempt; it doubles up to 64 times that.
const BACKOFF: Duration = Duration::from_millis(25);

/// The table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) client: Client,
    pub(super) name: String,
}

/// Which items of a partition are wanted, in the order of their sort keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Range {
    pub(super) partition: String,
    /// The first sort key that is wanted, or the one behind which it begins.
    pub(super) from: Option<String>,
    /// The last sort key that is wanted.
    pub(super) to: Option<String>,
    /// How many at most.
    pub(super) limit: Option<i32>,
    /// In the order from the last sort key to the first.
    pub(super) is_reversed: bool,
}

/// Why a transaction did not come about. Nothing of it is there.
#[derive(Debug)]
pub(super) enum TransactError {
    /// DynamoDB says of each action whether it was in the way.
    Cancelled(Vec<CancellationReason>),
    /// DynamoDB takes no transaction like this.
    Invalid(String),
    /// Anything else; where no answer came, the transaction may have come about after all.
    Failed(Failure),
}

impl Table {
    /// The item with that key, as it is now.
    pub(super) async fn get(&self, key: Item) -> Result<Option<Item>, Failure> {
        let call = self.client.get_item().table_name(&self.name).consistent_read(true);
        let output = call.set_key(Some(key)).send().await;
        let output = output.map_err(|error| self.failure("read from the table", &error))?;
        Ok(output.item)
    }

    /// The items with these keys, as they are now, as far as they are there and in no order.
    pub(super) async fn get_many(&self, keys: Vec<Item>) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::with_capacity(keys.len());
        for keys in keys.chunks(GET_KEYS_MAX) {
            let mut left = keys.to_vec();
            let mut attempt = 0;
            while !left.is_empty() {
                pause(attempt).await;
                attempt += 1;
                if attempt > ATTEMPTS_MAX {
                    return Err(self.unavailable("read all that was asked for from the table"));
                }
                let wanted =
                    KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true);
                let wanted = wanted.build().expect("the keys are set");
                let call = self.client.batch_get_item().request_items(&self.name, wanted);
                let output = call.send().await;
                let output = output.map_err(|error| self.failure("read from the table", &error))?;
                items.extend(
                    output.responses.unwrap_or_default().remove(&self.name).unwrap_or_default(),
                );
                let mut unprocessed = output.unprocessed_keys.unwrap_or_default();
                left = unprocessed.remove(&self.name).map_or_else(Vec::new, |left| left.keys);
            }
        }
        Ok(items)
    }

    /// The items of a range, and whether there may be more behind them: at most what the range's
    /// limit or 1 MiB allows.
    pub(super) async fn query(&self, range: &Range) -> Result<(Vec<Item>, bool), Failure> {
        let mut condition = "pk = :pk".to_owned();
        let mut values: HashMap<String, AttributeValue> =
            HashMap::from([(":pk".to_owned(), text(&range.partition))]);
        let mut value = |name: &str, sk: &String| drop(values.insert(name.to_owned(), text(sk)));
        match (&range.from, &range.to) {
            (Some(from), Some(to)) => {
                condition.push_str(" AND sk BETWEEN :from AND :to");
                value(":from", from);
                value(":to", to);
            }
            (Some(from), None) => {
                condition.push_str(" AND sk >= :from");
                value(":from", from);
            }
            (None, Some(to)) => {
                condition.push_str(" AND sk <= :to");
                value(":to", to);
            }
            (None, None) => {}
        }
        let call = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression(condition)
            .set_expression_attribute_values(Some(values))
            .scan_index_forward(!range.is_reversed)
            .set_limit(range.limit);
        let output = call.send().await;
        let output = output.map_err(|error| self.failure("query the table", &error))?;
        let more = output.last_evaluated_key.is_some_and(|key| !key.is_empty());
        Ok((output.items.unwrap_or_default(), more))
    }

    /// All items of a range; for what is small by its nature.
    pub(super) async fn query_all(&self, mut range: Range) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        loop {
            let (some, more) = self.query(&range).await?;
            let last = some.last().and_then(|item| item.get(SK)?.as_s().ok().cloned());
            items.extend(some);
            match last {
                Some(last) if more => range.from = Some(behind(&last)),
                _ => return Ok(items),
            }
        }
    }

    /// Writes all of the actions or none.
    pub(super) async fn transact(
        &self,
        actions: Vec<TransactWriteItem>,
    ) -> Result<(), TransactError> {
        let call = self.client.transact_write_items().set_transact_items(Some(actions));
        let Err(error) = call.send().await else { return Ok(()) };
        match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                Err(TransactError::Cancelled(cancelled.cancellation_reasons().to_vec()))
            }
            _ if aws::code(&error).ends_with("ValidationException") => {
                let failure = self.failure("write to the table", &error);
                let said = std::error::Error::source(&failure).map(ToString::to_string);
                Err(TransactError::Invalid(said.unwrap_or_default()))
            }
            _ => Err(TransactError::Failed(self.failure("write to the table", &error))),
        }
    }

    /// What is said of an error of the table.
    pub(super) fn failure<E>(
        &self,
        attempted: &'static str,
        error: &aws_sdk_dynamodb::error::SdkError<E>,
    ) -> Failure
    where
        E: aws_sdk_dynamodb::error::ProvideErrorMetadata
            + std::error::Error
            + Send
            + Sync
            + 'static,
    {
        let failure = aws::failure(attempted, &self.name, error);
        if failure.kind() != FailureKind::Missing {
            return failure;
        }
        failure.hint(format!(
            "there is no such table in this account and region; make it with `inlet deploy`, or \
             `inlet migrate --store dynamodb://{}`",
            self.name
        ))
    }

    pub(super) fn unavailable(&self, attempted: &'static str) -> Failure {
        Failure::new(FailureKind::Unavailable, attempted, &self.name)
            .hint("the table is throttled or others write the same items; it is tried again")
    }
}

/// The smallest sort key behind that one.
pub(super) fn behind(sk: &str) -> String {
    format!("{sk}\u{1}")
}

/// Waits before the attempt with that number; not before the first.
pub(super) async fn pause(attempt: u32) {
    if attempt > 0 {
        let mut random = [0];
        // Without a random number the pause is only less spread.
        let spread = getrandom::fill(&mut random).map_or(1.0, |()| f64::from(random[0]) / 255.0);
        let pause = BACKOFF * 2_u32.pow(attempt.min(7) - 1);
        tokio::time::sleep(pause.mul_f64(0.5 + spread / 2.0)).await;
    }
}

/// The value of a key, for a name.
pub(super) fn partition_of(item: &Item) -> &str {
    item.get(PK).and_then(|pk| pk.as_s().ok()).map_or("", String::as_str)
}
