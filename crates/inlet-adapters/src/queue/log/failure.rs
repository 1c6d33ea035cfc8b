//! What an error of a log means for the caller.

use inlet_core::failure::{Failure, FailureKind};
use inlet_log::{
    AdoptError, AppendError, Damage, DriveError, Full, IoError, OpenError, PairError, Poison,
    ReadError, ReleaseError,
};

use super::known::MissingLog;
use crate::files;

const DAMAGED: &str = Damage::HINT;
/// The way on from a log and a store that do not belong together.
pub(super) const MISFIT: &str = "put back the store that the log names (is a volume not mounted?); \
     if it is gone for good, `inlet restore` fills the new one from a backup, and \
     `inlet fsck --repair` has the log go on with it";
/// The way on from a log that is not there.
pub(super) const MISSING: &str = "put it back; if it is gone for good, `inlet fsck --repair` goes on \
     without it, and what was in it and not stored is lost";
const POISONED: &str =
    "nothing more is acknowledged; start Inlet again, it recovers what was acknowledged";

pub(super) fn append(error: AppendError) -> Failure {
    let failure = |kind, subject: String| Failure::new(kind, "append to the log", subject);
    match &error {
        AppendError::Full { dir, cause } => {
            let hint = match cause {
                Full::Queue { .. } => {
                    "it takes more once documents were stored; is the store away?"
                }
                Full::Disk(_) => "make room on the disk",
                Full::Appends { .. } => "the disk is slower than what comes in",
            };
            failure(FailureKind::Full, dir.display().to_string()).hint(hint)
        }
        AppendError::TooLarge { .. } => {
            failure(FailureKind::Refused, "a document larger than a group".to_owned())
        }
        AppendError::NoSegment(segment) => {
            failure(FailureKind::Unavailable, segment.dir.display().to_string())
        }
        AppendError::Poisoned(poison) => {
            failure(FailureKind::Poisoned, poison.path.display().to_string()).hint(POISONED)
        }
        AppendError::Closed { dir } => {
            failure(FailureKind::Unavailable, dir.display().to_string()).hint("Inlet is stopping")
        }
    }
    .because(error)
}

pub(super) fn open(error: OpenError) -> Failure {
    match error {
        OpenError::Damage(damage) => damaged("open the log", damage),
        OpenError::Io(error) => io(error),
        OpenError::InUse { ref dir, .. } => {
            Failure::new(FailureKind::Refused, "open the log", dir.display().to_string())
                .hint("stop the process that uses it, or choose another directory with --data")
                .because(error)
        }
        OpenError::Option { option, .. } => {
            Failure::new(FailureKind::Refused, "open a log with the option", option).because(error)
        }
    }
}

pub(super) fn read(error: ReadError) -> Failure {
    match error {
        ReadError::Damage(damage) => damaged("read the log", damage),
        ReadError::Io(error) => io(error),
    }
}

pub(super) fn release(error: ReleaseError) -> Failure {
    match error.source {
        ReadError::Io(IoError { source, .. }) => {
            files::failure(source, "remove what is stored from the log", &error.dir)
        }
        ReadError::Damage(damage) => damaged("remove what is stored from the log", damage),
    }
}

pub(super) fn adopt(error: AdoptError) -> Failure {
    match error {
        AdoptError::InUse { ref dir } => {
            Failure::new(FailureKind::Refused, "change the log", dir.display().to_string())
                .hint("stop the process that uses it first")
                .because(error)
        }
        AdoptError::Read(error) => read(error),
    }
}

pub(super) fn pair(error: PairError) -> Failure {
    match error {
        PairError::Read(error) => read(error),
        PairError::OtherStore { ref dir, .. } | PairError::OlderStore { ref dir, .. } => {
            Failure::new(FailureKind::Refused, "go on with the log", dir.display().to_string())
                .hint(MISFIT)
                .because(error)
        }
    }
}

pub(super) fn drive(error: DriveError) -> Failure {
    match error {
        DriveError::Poisoned(poison) => {
            let Poison { attempted, path, .. } = &*poison;
            Failure::new(FailureKind::Poisoned, *attempted, path.display().to_string())
                .hint(POISONED)
                .because(DriveError::Poisoned(poison))
        }
        DriveError::Twice { ref dir } => {
            Failure::new(FailureKind::Refused, "drive the log", dir.display().to_string())
                .because(error)
        }
    }
}

/// A log that was made here and is not here any more.
pub(super) fn missing(log: &MissingLog) -> Failure {
    let MissingLog { instance, id, dir } = log;
    Failure::new(FailureKind::Missing, "find the log of", format!("instance {instance}"))
        .because(format!("{} does not hold the log {id} any more", dir.display()))
        .hint(MISSING)
}

fn damaged(attempted: &'static str, damage: Damage) -> Failure {
    Failure::new(FailureKind::Damaged, attempted, damage.path.display().to_string())
        .hint(DAMAGED)
        .because(damage)
}

pub(super) fn io(error: IoError) -> Failure {
    files::failure(error.source, error.attempted, &error.path)
}
