//! The database's password, where the secrets have one: read at the start, and again while the
//! process runs, so that a rotated one is used for new connections without a restart.

use std::sync::{Arc, RwLock};

use anyhow::Context;
use inlet_core::ports::Secrets;
use serde::Deserialize;

/// The secret that holds it: the password as text, or the JSON that Amazon RDS rotates.
const DATABASE: &str = "database";

/// The password of this moment.
#[derive(Clone)]
pub(crate) struct DatabasePassword(Arc<RwLock<String>>);

/// What Amazon RDS keeps; the rest of it is in the store's URL.
#[derive(Deserialize)]
struct Rotated {
    password: String,
}

impl DatabasePassword {
    /// Reads it; `None` where the secrets have none, and the URL's is used.
    pub(crate) async fn read(secrets: &dyn Secrets) -> anyhow::Result<Option<Self>> {
        Ok(text(secrets).await?.map(|text| Self(Arc::new(RwLock::new(text)))))
    }

    /// Reads it again; true where it has changed.
    pub(crate) async fn refresh(&self, secrets: &dyn Secrets) -> anyhow::Result<bool> {
        let Some(text) = text(secrets).await? else { return Ok(false) };
        let mut current = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_new = *current != text;
        *current = text;
        Ok(is_new)
    }

    /// The password.
    #[cfg(feature = "postgres")]
    pub(super) fn current(&self) -> Option<String> {
        Some(self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }
}

async fn text(secrets: &dyn Secrets) -> anyhow::Result<Option<String>> {
    let Some(bytes) = secrets.get(DATABASE).await? else { return Ok(None) };
    let text =
        String::from_utf8(bytes).with_context(|| format!("the secret `{DATABASE}` is no text"))?;
    let rotated = serde_json::from_str::<Rotated>(&text).map(|rotated| rotated.password);
    Ok(Some(rotated.unwrap_or_else(|_| text.trim_end().to_owned())))
}
