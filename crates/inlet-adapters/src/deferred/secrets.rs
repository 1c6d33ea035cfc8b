//! Secrets that are opened now or later.

use async_trait::async_trait;
use inlet_core::failure::Failure;
use inlet_core::health::{Part, State};
use inlet_core::ports::{Secrets, Swapped};

use super::reports::Direction::{Read, Write};
use super::reports::Reports;
use super::{Deferred, Opening};

impl Deferred<dyn Secrets> {
    /// Secrets that `open` opens and that report to `part`. Nothing is opened yet.
    ///
    /// They are asked nothing between calls: whoever needs them reads them again and again.
    pub fn secrets(
        part: Part,
        open: impl Fn() -> Opening<dyn Secrets> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Reports::new(part, State::Degraded), None, false, open)
    }
}

#[async_trait]
impl Secrets for Deferred<dyn Secrets> {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let secrets = self.opened()?;
        self.seen(Read, &secrets, secrets.get(name).await)
    }

    async fn swap(
        &self,
        name: &str,
        expected: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Swapped, Failure> {
        let secrets = self.opened()?;
        self.seen(Write, &secrets, secrets.swap(name, expected, value).await)
    }
}
