//! The schema, and how it changes under binaries that run.
//!
//! A migration is a numbered file. One that *expands* only adds, so that the binary before it
//! and the one after it both work on what it leaves; one that *contracts* takes away what only
//! binaries before it used. A change is rolled out in this order: `inlet migrate` expands, the
//! new binary replaces the old one instance by instance, `inlet migrate --contract` contracts.
//!
//! | table | holds |
//! | --- | --- |
//! | `inlet.schema_version` | one row: `version`, the last migration that expanded, and `compatible_since`, the last one that contracted: a binary must know that one, or the schema lacks what it uses |
//! | `inlet.migrations` | what ran, when, and the SHA-256 of its file: a file that ran is never changed |
//!
//! All of a run is one transaction under an advisory lock of that transaction, so two that run at
//! once wait for each other, one that fails leaves nothing, and it works through a pooler.

mod grant;
#[cfg(test)]
mod tests;

use std::time::Duration;

use inlet_core::failure::{Failure, FailureKind};
use sha2::{Digest, Sha256};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, error::SqlState};

use super::failure::Fault;

pub(super) use grant::{grant, make_role};

/// The key of the advisory lock: `Inlt`, then `migr`.
const LOCK: i64 = 0x496e_6c74_6d69_6772;

/// The migrations of this binary, in order.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "documents",
        phase: Phase::Expand,
        sql: include_str!("migrations/0001_documents.sql"),
    },
    Migration {
        number: 2,
        name: "identity",
        phase: Phase::Expand,
        sql: include_str!("migrations/0002_identity.sql"),
    },
    Migration {
        number: 3,
        name: "weeks",
        phase: Phase::Expand,
        sql: include_str!("migrations/0003_weeks.sql"),
    },
    Migration {
        number: 4,
        name: "erasures",
        phase: Phase::Expand,
        sql: include_str!("migrations/0004_erasures.sql"),
    },
];

const CATALOG: &str = "
    CREATE TABLE inlet.schema_version (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        version bigint NOT NULL,
        compatible_since bigint NOT NULL
    );
    INSERT INTO inlet.schema_version (version, compatible_since) VALUES (0, 0);
    CREATE TABLE inlet.migrations (
        number bigint PRIMARY KEY,
        name text NOT NULL,
        phase text NOT NULL,
        sha256 bytea NOT NULL,
        ran_at timestamptz NOT NULL DEFAULT now()
    );";

/// What a migration does to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It adds.
    Expand,
    /// It takes away.
    Contract,
}

/// One step of the schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    /// Its place; migrations are numbered from 1 without a gap.
    pub(super) number: u32,
    /// Its name, for people.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) phase: Phase,
    /// The statements.
    pub(super) sql: &'static str,
}

/// What a run of migrations did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigrateReport {
    /// What ran, by number and name (`0001_documents`), in order; empty where nothing was to do.
    pub applied: Vec<String>,
    /// The last migration that expanded the schema.
    pub version: u32,
    /// The oldest binary the schema works with, by the last migration it knows.
    pub compatible_since: u32,
    /// What waits to be contracted, once no binary from before it runs.
    pub to_contract: Vec<String>,
}

/// How long a run may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long another run is waited for, in milliseconds.
    pub(super) wait_ms: u64,
    /// How long a lock on a table is waited for, in milliseconds: meanwhile all who use the table
    /// wait behind it.
    pub(super) lock_ms: u64,
    /// How long one statement may take, in milliseconds.
    pub(super) statement_ms: u64,
}

impl Limits {
    /// How long all of it may take.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_millis(self.wait_ms.saturating_add(self.statement_ms))
    }
}

/// Why a schema can't be migrated or used.
#[derive(Debug)]
pub(super) enum Unfit {
    /// The database said so.
    Fault(Fault),
    /// This is refused; what, and what to do about it.
    Refused(String, &'static str),
    /// This is not there; what, and what to do about it.
    Missing(String, &'static str),
}

impl<T: Into<Fault>> From<T> for Unfit {
    fn from(fault: T) -> Self {
        Self::Fault(fault.into())
    }
}

impl Unfit {
    /// The same where the schema was to be changed: a right that is missing is that of the role
    /// that changes it.
    pub(super) fn changing(self, attempted: &'static str, shown: &str) -> Failure {
        let is_right = matches!(&self, Self::Fault(Fault::Driver(error))
            if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE));
        let failure = self.failure(attempted, shown);
        if !is_right {
            return failure;
        }
        failure.hint(
            "the role of the URL lacks a right: as an administrator of that database, run \
             `CREATE SCHEMA inlet AUTHORIZATION ROLE` (or `ALTER SCHEMA inlet OWNER TO ROLE`) for \
             it; making a role with --grant also needs CREATEROLE",
        )
    }

    /// The failure that this is, while `attempted` was tried on the database `shown`.
    pub(super) fn failure(self, attempted: &'static str, shown: &str) -> Failure {
        match self {
            Self::Fault(fault) => super::failure::failure(fault, attempted, shown),
            Self::Refused(reason, hint) => {
                Failure::new(FailureKind::Refused, attempted, shown).because(reason).hint(hint)
            }
            Self::Missing(reason, hint) => {
                Failure::new(FailureKind::Missing, attempted, shown).because(reason).hint(hint)
            }
        }
    }
}

impl Migration {
    fn label(&self) -> String {
        format!("{:04}_{}", self.number, self.name)
    }
}

/// Runs what of `migrations` is of that phase and has not run yet.
pub(super) async fn run(
    client: &Client,
    migrations: &[Migration],
    phase: Phase,
    limits: Limits,
) -> Result<MigrateReport, Unfit> {
    let Limits { wait_ms, lock_ms, statement_ms } = limits;
    client
        .batch_execute(&format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED;
             SET LOCAL statement_timeout = {statement_ms};
             SET LOCAL lock_timeout = {wait_ms};
             SELECT pg_advisory_xact_lock({LOCK});
             SET LOCAL lock_timeout = {lock_ms}"
        ))
        .await?;
    if !is_there(client, "to_regclass('inlet.schema_version')").await? {
        if phase == Phase::Contract {
            return Err(missing());
        }
        // An administrator may have made the schema for a role that may make none.
        if !is_there(client, "to_regnamespace('inlet')").await? {
            client.batch_execute("CREATE SCHEMA inlet").await?;
        }
        client.batch_execute(CATALOG).await?;
    }
    let (version, compatible_since) = versions(client).await?;
    is_compatible(migrations, compatible_since)?;
    let ran = ran(client).await?;
    is_unchanged(migrations, &ran)?;
    let mut report = MigrateReport { version, compatible_since, ..MigrateReport::default() };
    for migration in migrations.iter().filter(|one| !ran.iter().any(|(n, _)| *n == one.number)) {
        if migration.phase != phase {
            match migration.phase {
                Phase::Contract => report.to_contract.push(migration.label()),
                Phase::Expand => return Err(behind()),
            }
            continue;
        }
        client.batch_execute(migration.sql).await?;
        note(client, migration).await?;
        match phase {
            Phase::Expand => report.version = report.version.max(migration.number),
            Phase::Contract => report.compatible_since = migration.number,
        }
        report.applied.push(migration.label());
    }
    if !report.applied.is_empty() {
        set_versions(client, report.version, report.compatible_since).await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(report)
}

/// Whether a binary that knows `migrations` can work with the schema that is there.
pub(super) async fn check(client: &Client, migrations: &[Migration]) -> Result<(), Unfit> {
    let (version, compatible_since) = match versions(client).await {
        Ok(versions) => versions,
        Err(Unfit::Fault(Fault::Driver(error)))
            if matches!(
                error.code(),
                Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME)
            ) =>
        {
            return Err(missing());
        }
        Err(unfit) => return Err(unfit),
    };
    is_compatible(migrations, compatible_since)?;
    let needed = migrations.iter().filter(|one| one.phase == Phase::Expand).map(|one| one.number);
    if needed.max().is_some_and(|needed| version < needed) {
        return Err(behind());
    }
    Ok(())
}

fn missing() -> Unfit {
    let reason = "the database has no tables of Inlet".to_owned();
    Unfit::Missing(reason, "run `inlet migrate --store postgres://…` first")
}

fn behind() -> Unfit {
    let reason = "the schema is older than this binary".to_owned();
    Unfit::Refused(reason, "run `inlet migrate --store postgres://…` first")
}

fn is_compatible(migrations: &[Migration], compatible_since: u32) -> Result<(), Unfit> {
    let known = migrations.last().map_or(0, |one| one.number);
    if compatible_since <= known {
        return Ok(());
    }
    Err(Unfit::Refused(
        format!(
            "the schema is for binaries that know migration {compatible_since}, this one knows \
             {known}"
        ),
        "use the binary that migrated it, or a newer one",
    ))
}

fn is_unchanged(migrations: &[Migration], ran: &[(u32, Vec<u8>)]) -> Result<(), Unfit> {
    for (number, sha256) in ran {
        let known = migrations.iter().find(|one| one.number == *number);
        let is_newer = migrations.last().is_none_or(|last| *number > last.number);
        if known.is_some_and(|one| checksum(one) == sha256[..]) || (known.is_none() && is_newer) {
            continue;
        }
        return Err(Unfit::Refused(
            format!("migration {number} that ran there is not the one this binary has"),
            "use the binary that migrated it, or a newer one; a migration that ran is not changed",
        ));
    }
    Ok(())
}

/// Returns true if the name that this expression looks up is there.
async fn is_there(client: &Client, expression: &str) -> Result<bool, Unfit> {
    let rows = client.query_typed(&format!("SELECT {expression} IS NOT NULL"), &[]).await?;
    Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
}

async fn versions(client: &Client) -> Result<(u32, u32), Unfit> {
    let sql = "SELECT version, compatible_since FROM inlet.schema_version";
    let rows = client.query_typed(sql, &[]).await?;
    let row = rows.first().ok_or(Fault::Damaged("schema_version"))?;
    let number = |column| -> Result<u32, Unfit> {
        Ok(u32::try_from(row.try_get::<_, i64>(column)?).map_err(|_| Fault::Damaged("version"))?)
    };
    Ok((number(0)?, number(1)?))
}

async fn set_versions(client: &Client, version: u32, compatible_since: u32) -> Result<(), Unfit> {
    client
        .execute_typed(
            "UPDATE inlet.schema_version SET version = $1, compatible_since = $2",
            &[(&i64::from(version), Type::INT8), (&i64::from(compatible_since), Type::INT8)],
        )
        .await?;
    Ok(())
}

async fn ran(client: &Client) -> Result<Vec<(u32, Vec<u8>)>, Unfit> {
    let sql = "SELECT number, sha256 FROM inlet.migrations ORDER BY number";
    let mut ran = Vec::new();
    for row in client.query_typed(sql, &[]).await? {
        let number = u32::try_from(row.try_get::<_, i64>(0)?);
        ran.push((number.map_err(|_| Fault::Damaged("number"))?, row.try_get(1)?));
    }
    Ok(ran)
}

async fn note(client: &Client, migration: &Migration) -> Result<(), Unfit> {
    let phase = match migration.phase {
        Phase::Expand => "expand",
        Phase::Contract => "contract",
    };
    client
        .execute_typed(
            "INSERT INTO inlet.migrations (number, name, phase, sha256) VALUES ($1, $2, $3, $4)",
            &[
                (&i64::from(migration.number), Type::INT8),
                (&migration.name, Type::TEXT),
                (&phase, Type::TEXT),
                (&&checksum(migration)[..], Type::BYTEA),
            ],
        )
        .await?;
    Ok(())
}

fn checksum(migration: &Migration) -> [u8; 32] {
    Sha256::digest(migration.sql).into()
}
