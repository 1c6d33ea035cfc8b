//! What an error of a log means for the caller.

use inlet_core::failure::{Failure, FailureKind};
use inlet_log::{
    AppendError, Damage, DriveError, Full, IoError, OpenError, Poison, ReadError, ReleaseError,
};

use crate::files;

const DAMAGED: &str = Damage::HINT;
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
    files::failure(error.source, "remove what is stored from the log", &error.dir)
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

fn damaged(attempted: &'static str, damage: Damage) -> Failure {
    Failure::new(FailureKind::Damaged, attempted, damage.path.display().to_string())
        .hint(DAMAGED)
        .because(damage)
}

fn io(error: IoError) -> Failure {
    files::failure(error.source, error.attempted, &error.path)
}
