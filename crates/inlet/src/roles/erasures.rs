//! This process's knowledge of the erasures of the store: followed while the store answers, and
//! kept in the data directory for a restart while it does not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use inlet_core::accept::Intake;
use inlet_core::ports::Store;
use inlet_http::more_erasures;

use super::stop::Stop;

/// The file's name in the data directory.
pub(crate) const FILE: &str = "erasures";

/// The number of erasures known when the process before ended; 0 where nothing was kept.
pub(crate) fn kept(file: &Path) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Keeps what `intake` knows up to date until it is time to stop.
pub(crate) async fn follow(store: Arc<dyn Store>, intake: Arc<Intake>, file: PathBuf, stop: Stop) {
    loop {
        let erasures = tokio::select! {
            _ = stop.wait() => return,
            erasures = more_erasures(&*store, &intake) => erasures,
        };
        // Losing it costs nothing while the store answers.
        if let Err(error) = keep(&file, erasures).await {
            tracing::warn!(path = %file.display(), %error, "the count of erasures was not kept");
        }
    }
}

/// Written beside and renamed, so that the file always has a whole number.
async fn keep(file: &Path, erasures: u64) -> std::io::Result<()> {
    let beside = file.with_extension(std::process::id().to_string());
    let file = file.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        std::fs::write(&beside, format!("{erasures}\n"))?;
        std::fs::rename(&beside, file)
    });
    written.await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_count_survives_its_file_and_no_file_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        assert_eq!(kept(&file), 0);
        for erasures in [1, 1_000_000_000_000] {
            keep(&file, erasures).await.unwrap();
            assert_eq!(kept(&file), erasures);
        }
        std::fs::write(&file, "no number").unwrap();
        assert_eq!(kept(&file), 0);
    }
}
