//! The database's password, where the secrets have one: read at the start, and again while the
//! process runs, so that a rotated one is used for new connections without a restart.

use std::sync::{Arc, PoisonError, RwLock};

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::Secrets;
use serde::Deserialize;

/// The secret that holds it: the password as text, or the JSON that Amazon RDS rotates.
const DATABASE: &str = "database";

/// The password of this moment; none where the secrets have none, or were not asked yet.
#[derive(Clone, Default)]
pub(crate) struct DatabasePassword(Arc<RwLock<Option<String>>>);

/// What Amazon RDS keeps; the rest of it is in the store's URL.
#[derive(Deserialize)]
struct Rotated {
    password: String,
}

impl DatabasePassword {
    /// Reads it; true where it has changed. One that was read stays where the secrets have none.
    ///
    /// # Errors
    /// Returns the failure of the secrets, or [`FailureKind::Refused`] if the secret is no text.
    pub(crate) async fn refresh(&self, secrets: &dyn Secrets) -> Result<bool, Failure> {
        let Some(bytes) = secrets.get(DATABASE).await? else { return Ok(false) };
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::new(FailureKind::Refused, "use as a password the secret", DATABASE)
                .because("it is no text")
                .hint("keep the password there as text, or as the JSON that Amazon RDS rotates")
        })?;
        let rotated = serde_json::from_str::<Rotated>(&text).map(|rotated| rotated.password);
        let read = rotated.unwrap_or_else(|_| text.trim_end().to_owned());
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = current.as_ref() != Some(&read);
        *current = Some(read);
        Ok(is_new)
    }

    /// The password, where the secrets have one.
    #[cfg(feature = "postgres")]
    pub(super) fn current(&self) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
