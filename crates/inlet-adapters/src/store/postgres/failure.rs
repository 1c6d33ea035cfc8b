//! What an error of PostgreSQL, or of the way to it, means for the caller.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::{fmt, io};

use inlet_core::failure::{Failure, FailureKind};
use rustls::CertificateError;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

/// What the server said: its message and code, and nothing of the row, which its details quote.
#[derive(Debug)]
struct Said {
    message: String,
    code: String,
    constraint: Option<String>,
}

impl From<&DbError> for Said {
    fn from(error: &DbError) -> Self {
        Self {
            message: error.message().to_owned(),
            code: error.code().code().to_owned(),
            constraint: error.constraint().map(str::to_owned),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {}", self.message, self.code)?;
        if let Some(constraint) = &self.constraint {
            write!(f, ", constraint {constraint}")?;
        }
        f.write_str(")")
    }
}

impl StdError for Said {}

/// What a use of the database needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing but time.
    None,
    /// The transaction can be begun again at once: another one was in its way.
    Again,
    /// This connection is of no use any more.
    Reconnect,
    /// All connections lead to a server that may no longer write.
    ReconnectAll,
}

/// What can go wrong in a transaction.
#[derive(Debug)]
pub(super) enum Fault {
    /// The driver or the server said so.
    Driver(Error),
    /// A value of this column is not one that was ever written.
    Damaged(&'static str),
    /// A number that the database's integers can't hold.
    TooLarge(u64),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

/// The failure that `fault` is, while `attempted` was tried on the database `shown`.
pub(super) fn failure(fault: Fault, attempted: &'static str, shown: &str) -> Failure {
    match fault {
        Fault::Driver(error) => {
            let (kind, hint) = classify(&error, false);
            with(Failure::new(kind, attempted, shown), error, hint)
        }
        Fault::Damaged(column) => Failure::new(FailureKind::Damaged, attempted, shown)
            .because(format!("a value of `{column}` is not one that was ever written")),
        Fault::TooLarge(number) => Failure::new(FailureKind::Refused, attempted, shown)
            .because(format!("{number} is more than the database's integers hold")),
    }
}

/// The failure that `error` is while a connection to `shown` was made. A password may be in the
/// middle of its rotation, and a certificate is replaced there: nothing of this is for good.
pub(super) fn connect_failure(error: Error, shown: &str) -> Failure {
    let (kind, hint) = classify(&error, true);
    with(Failure::new(kind, "connect to", shown), error, hint)
}

/// An outage without an error of the driver.
pub(super) fn away(attempted: &'static str, shown: &str, reason: String) -> Failure {
    Failure::new(FailureKind::Unavailable, attempted, shown).because(reason)
}

/// What to do about the connection or transaction that gave `error`.
pub(super) fn remedy(fault: &Fault) -> Remedy {
    let Fault::Driver(error) = fault else { return Remedy::None };
    match error.code() {
        Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Remedy::ReconnectAll,
        Some(code)
            if *code == SqlState::T_R_DEADLOCK_DETECTED
                || *code == SqlState::T_R_SERIALIZATION_FAILURE
                // Someone stored it without taking the lock: next time it is seen.
                || *code == SqlState::UNIQUE_VIOLATION =>
        {
            Remedy::Again
        }
        Some(code) if matches!(class(code), "08" | "57") && *code != SqlState::QUERY_CANCELED => {
            Remedy::Reconnect
        }
        Some(code) if *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Remedy::Reconnect,
        Some(_) => Remedy::None,
        None => Remedy::Reconnect,
    }
}

/// Whether the engine refuses the row itself, so that it can't be stored as it is and others can:
/// a value it does not take, a constraint, a limit, a trigger that says no.
pub(super) fn refusal(fault: &Fault) -> Option<String> {
    let Fault::Driver(error) = fault else { return None };
    let said = error.as_db_error()?;
    let refused = matches!(class(said.code()), "22" | "23" | "44" | "54" | "P0");
    (refused && *said.code() != SqlState::UNIQUE_VIOLATION).then(|| Said::from(said).to_string())
}

/// An error and its causes in one line.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&match cause.downcast_ref::<DbError>() {
            Some(said) => Said::from(said).to_string(),
            None => cause.to_string(),
        });
        source = cause.source();
    }
    text
}

fn with(failure: Failure, error: Error, hint: Option<Cow<'static, str>>) -> Failure {
    let failure = match error.as_db_error() {
        Some(said) => failure.because(Said::from(said)),
        None => failure.because(error),
    };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn class(code: &SqlState) -> &str {
    code.code().get(..2).unwrap_or_default()
}

fn classify(error: &Error, connecting: bool) -> (FailureKind, Option<Cow<'static, str>>) {
    match error.as_db_error() {
        Some(said) => classify_said(said),
        None if connecting => classify_connecting(error),
        None if error
            .source()
            .is_some_and(|cause| cause.is::<tokio_postgres::types::WrongType>()) =>
        {
            (FailureKind::Missing, Some(SCHEMA.into()))
        }
        None => (FailureKind::Unavailable, None),
    }
}

const SCHEMA: &str = "the schema is not the one this binary knows: run `inlet migrate --store …` \
    with a role that may change it, or use the binary the schema was made for";

fn classify_said(said: &DbError) -> (FailureKind, Option<Cow<'static, str>>) {
    use FailureKind::{Damaged, Denied, Full, Missing, Refused, Unavailable};
    let code = said.code();
    let (kind, hint) = if *code == SqlState::UNIQUE_VIOLATION {
        (Unavailable, Some("something else writes to the store's tables; it is tried again"))
    } else if *code == SqlState::DISK_FULL {
        (Full, Some("make room on the disk of the database"))
    } else if *code == SqlState::LOCK_NOT_AVAILABLE {
        (Unavailable, Some("another session holds a lock for long; it is tried again"))
    } else if *code == SqlState::QUERY_CANCELED {
        (Unavailable, Some("it took longer than the store's time limit; it is tried again"))
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        (
            Unavailable,
            Some("the server may only read now: it connects again, to the one that may write"),
        )
    } else if *code == SqlState::INVALID_PASSWORD
        || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
    {
        (Denied, Some("check user and password of the store's URL"))
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        (Missing, Some("make the database first (`createdb`), or correct its name in the URL"))
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        (Denied, Some("give this role what it needs: `inlet migrate --store … --grant ROLE`"))
    } else {
        match class(code) {
            "42" | "3F" => (Missing, Some(SCHEMA)),
            "28" => (Denied, None),
            "3D" => (Missing, None),
            "22" | "23" | "44" | "54" | "P0" | "0A" => (Refused, None),
            "XX" if *code != SqlState::INTERNAL_ERROR => {
                (Damaged, Some("the database is damaged: look at the log of the server"))
            }
            _ => (Unavailable, None),
        }
    };
    (kind, hint.map(Cow::Borrowed))
}

fn classify_connecting(error: &Error) -> (FailureKind, Option<Cow<'static, str>>) {
    use FailureKind::{Denied, Unavailable};
    let Some(source) = error.source() else { return (Unavailable, None) };
    let Some(io) = source.downcast_ref::<io::Error>() else {
        // Beside io errors, the driver has texts of its own for what can't be agreed on.
        let text = source.to_string();
        let hint = if text.contains("does not support TLS") {
            "the server offers no TLS: turn it on there, or say ?sslmode=disable where the network \
             is your own"
        } else if text.contains("password missing") {
            "give a password: postgres://USER:PASSWORD@HOST/DATABASE"
        } else {
            return (Denied, None);
        };
        return (Denied, Some(hint.into()));
    };
    let tls = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let hint = match tls {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => {
            "the server's certificate is for another name: connect by the name it is for, or say \
             ?sslmode=verify-ca"
        }
        Some(rustls::Error::InvalidCertificate(_)) => {
            "nobody this machine trusts vouches for the server's certificate: give its authority \
             by ?sslrootcert=FILE (for Amazon RDS: its global bundle)"
        }
        Some(_) => "TLS could not be agreed on: check what the server allows",
        None if io.kind() == io::ErrorKind::PermissionDenied => {
            "this server may only read: connect to the one that may write"
        }
        None => {
            return (
                Unavailable,
                Some("check that the server runs there and can be reached".into()),
            );
        }
    };
    let kind = if tls.is_some() { Denied } else { Unavailable };
    (kind, Some(hint.into()))
}
