//! Making the table.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoverySpecification,
    ReturnValue, ScalarAttributeType, TableStatus,
};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::StoreId;

use super::attributes::{Item, PK, SK, find_number, find_text, key, must, number, text};
use super::table::Table;
use crate::aws;

/// What this binary writes. A table of a newer version is refused.
pub(super) const VERSION: u32 = 1;
/// How long making the table may take, and how often it is looked at meanwhile.
const MADE_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where the version is kept.
pub(super) fn version_key() -> Item {
    key("schema", "schema")
}

/// Makes the table, with on-demand billing, protection from deletion and point-in-time recovery.
/// Whether there was none.
pub(super) async fn create(table: &Table) -> Result<bool, Failure> {
    let attribute = |name| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .expect("a name and a type are set")
    };
    let element = |name, kind| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(kind)
            .build()
            .expect("a name and a type are set")
    };
    let made = table
        .client
        .create_table()
        .table_name(&table.name)
        .attribute_definitions(attribute(PK))
        .attribute_definitions(attribute(SK))
        .key_schema(element(PK, KeyType::Hash))
        .key_schema(element(SK, KeyType::Range))
        .billing_mode(BillingMode::PayPerRequest)
        .deletion_protection_enabled(true)
        .send()
        .await;
    let is_new = match made {
        Ok(_) => true,
        Err(error) if aws::code(&error).ends_with("ResourceInUseException") => false,
        Err(error) => return Err(aws::failure("make the table", &table.name, &error)),
    };
    wait_until_active(table).await?;
    let recovery = PointInTimeRecoverySpecification::builder()
        .point_in_time_recovery_enabled(true)
        .build()
        .expect("what is to be enabled is set");
    table
        .client
        .update_continuous_backups()
        .table_name(&table.name)
        .point_in_time_recovery_specification(recovery)
        .send()
        .await
        .map_err(|error| table.failure("switch on point-in-time recovery of the table", &error))?;
    if check_version(table).await?.is_none() {
        let mut item = version_key();
        item.insert("version".to_owned(), number(VERSION));
        let put = table.client.put_item().table_name(&table.name).set_item(Some(item));
        put.send().await.map_err(|error| table.failure("write to the table", &error))?;
    }
    Ok(is_new)
}

/// The version of what is in the table, if it was noted. Refuses one that is newer.
pub(super) async fn check_version(table: &Table) -> Result<Option<u32>, Failure> {
    let Some(item) = table.get(version_key()).await? else { return Ok(None) };
    let version = must(find_number::<u32>(&item, "version"), &item, "version")?;
    if version > VERSION {
        let attempted = format!("open (version {version}, this binary knows {VERSION}) the table");
        return Err(Failure::new(FailureKind::Refused, attempted, &table.name)
            .hint("use the binary that wrote it, or a newer one"));
    }
    Ok(Some(version))
}

/// The identity of the table as a store; given to it where it has none yet.
pub(super) async fn identity(table: &Table) -> Result<StoreId, Failure> {
    let key = || key("schema", "identity");
    let read = |item: Item| {
        let id = find_text(&item, "id").and_then(|text| text.parse().ok());
        must(id, &item, "id")
    };
    if let Some(item) = table.get(key()).await? {
        return read(item);
    }
    let given = table
        .client
        .update_item()
        .table_name(&table.name)
        .set_key(Some(key()))
        .update_expression("SET id = if_not_exists(id, :made)")
        .expression_attribute_values(":made", text(StoreId::random().to_string()))
        .return_values(ReturnValue::AllNew)
        .send()
        .await
        .map_err(|error| table.failure("write to the table", &error))?;
    read(given.attributes.unwrap_or_default())
}

async fn wait_until_active(table: &Table) -> Result<(), Failure> {
    let active = async {
        loop {
            let found = table.client.describe_table().table_name(&table.name).send().await;
            let found = found.map_err(|error| table.failure("look at the table", &error))?;
            let status = found.table.and_then(|table| table.table_status);
            if status == Some(TableStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(MADE_WITHIN, active).await.unwrap_or_else(|_| {
        let failure = Failure::new(FailureKind::Unavailable, "make the table", &table.name);
        Err(failure.because(format!("it is not active after {} s", MADE_WITHIN.as_secs())))
    })
}
