//! What went wrong on our side, and whether trying again can help.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// The kind of a failure, which decides what the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The engine is away, locked, slow or throttling. Trying the same again later can succeed.
    Unavailable,
    /// There is no room: a full disk, a full queue. Trying again succeeds once there is room.
    Full,
    /// The engine answers and does not let us: an unknown password, a missing right, a disabled
    /// key, a clock that is off. Trying again succeeds once somebody has changed that there.
    Denied,
    /// The database, table, queue or bucket that a setting names is not there. Trying again
    /// succeeds once somebody has made it.
    Missing,
    /// What was read is not what was written. Trying again can't help; a person must look.
    Damaged,
    /// Refused for good: a wrong setting, a newer format, a value that the engine never takes.
    Refused,
    /// The engine can no longer vouch for what it holds and must be started anew.
    Poisoned,
}

impl FailureKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Unavailable,
        Self::Full,
        Self::Denied,
        Self::Missing,
        Self::Damaged,
        Self::Refused,
        Self::Poisoned,
    ];

    /// The word that clients may see: the kind, and nothing of a failure's text.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
            Self::Poisoned => "poisoned",
        }
    }
}

/// A failure of ours: what was attempted, on what, and why it did not work.
///
/// Its text is for operators. It never reaches a client.
#[derive(Debug)]
pub struct Failure {
    kind: FailureKind,
    attempted: Cow<'static, str>,
    subject: String,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure of `kind` while `attempted` (an infinitive: "read segment") was tried on
    /// `subject` (a path, an id, a URL without its password).
    pub fn new(
        kind: FailureKind,
        attempted: impl Into<Cow<'static, str>>,
        subject: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            attempted: attempted.into(),
            subject: subject.into(),
            hint: None,
            source: None,
        }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure with all of its causes, on one line, for logs and reports.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = Error::source(self);
        while let Some(source) = cause {
            text.push_str(": ");
            text.push_str(&source.to_string());
            cause = source.source();
        }
        text
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// What a person can do about it, where that is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether trying the same again later can succeed.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            FailureKind::Unavailable
            | FailureKind::Full
            | FailureKind::Denied
            | FailureKind::Missing => true,
            FailureKind::Damaged | FailureKind::Refused | FailureKind::Poisoned => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {} {}", self.attempted, self.subject)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
