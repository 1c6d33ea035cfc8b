//! Secrets in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{SECRET_BYTES_MAX, Secrets, Swapped};

/// [`Secrets`] in memory.
#[derive(Clone, Default)]
pub struct MemorySecrets(Arc<Mutex<HashMap<String, Vec<u8>>>>);

impl MemorySecrets {
    fn values(&self, name: &str) -> Result<MutexGuard<'_, HashMap<String, Vec<u8>>>, Failure> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
            return Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Err(Failure::new(FailureKind::Refused, "use the name of a secret", format!("{name:?}")))
    }
}

#[async_trait]
impl Secrets for MemorySecrets {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.values(name)?.get(name).cloned())
    }

    async fn swap(
        &self,
        name: &str,
        expected: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Swapped, Failure> {
        let value = fitting(name, value)?;
        let mut values = self.values(name)?;
        let there = values.get(name);
        if there.map(Vec::as_slice) != expected {
            return Ok(Swapped::Other(there.cloned()));
        }
        values.insert(name.to_owned(), value);
        Ok(Swapped::Done)
    }
}

fn fitting(name: &str, value: &[u8]) -> Result<Vec<u8>, Failure> {
    if value.len() <= SECRET_BYTES_MAX {
        return Ok(value.to_vec());
    }
    Err(Failure::new(FailureKind::Refused, "keep more than 64 KiB under", name))
}
