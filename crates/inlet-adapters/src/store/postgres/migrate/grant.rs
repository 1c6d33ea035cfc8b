//! The role that may read and write and nothing else.

use postgres_protocol::password::scram_sha_256;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::{LOCK, Unfit};

/// Makes `role` where it is not there, and gives it that password, also where it has another.
///
/// What the server gets, and may write into its log, is what SCRAM proves the password by (RFC
/// 5803), not the password. Two that do the same wait for each other.
pub(in super::super) async fn make_role(
    client: &Client,
    role: &str,
    password: &str,
) -> Result<(), Unfit> {
    if password.is_empty() {
        let reason = "its password is empty".to_owned();
        return Err(Unfit::Refused(reason, "keep a password in the secret `app`"));
    }
    let quoted = quoted(role)?;
    let verifier = scram_sha_256(password.as_bytes());
    client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
    let known = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1";
    let known = !client.query_typed(known, &[(&role, Type::TEXT)]).await?.is_empty();
    let verb = if known { "ALTER" } else { "CREATE" };
    client
        .batch_execute(&format!("{verb} ROLE {quoted} LOGIN PASSWORD '{verifier}'; COMMIT"))
        .await?;
    Ok(())
}

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
