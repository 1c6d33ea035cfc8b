//! The role that may read and write and nothing else.

use tokio_postgres::Client;

use super::Unfit;

/// Lets `role` read and write the documents and all that belongs to them, in this schema and
/// after later migrations of the same owner. It may not change the schema.
pub(in super::super) async fn grant(client: &Client, role: &str) -> Result<(), Unfit> {
    let role = quoted(role)?;
    client
        .batch_execute(&format!(
            "BEGIN;
             GRANT USAGE ON SCHEMA inlet TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA inlet TO {role};
             REVOKE INSERT, UPDATE, DELETE ON inlet.schema_version, inlet.migrations FROM {role};
             ALTER DEFAULT PRIVILEGES IN SCHEMA inlet
                 GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
             COMMIT"
        ))
        .await?;
    Ok(())
}

/// A name as SQL takes it, whatever is in it: names can't be parameters.
fn quoted(name: &str) -> Result<String, Unfit> {
    if name.is_empty() || name.contains('\0') {
        let reason = "that is no name of a role".to_owned();
        return Err(Unfit::Refused(reason, "give the name of a role that exists"));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}
