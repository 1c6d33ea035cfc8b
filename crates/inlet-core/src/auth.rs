//! Tokens: who may do what.
//!
//! A token is text that only its holder has; what is kept is its SHA-256. Tokens that Inlet makes
//! carry 192 random bits, so their hash needs no salt and no stretching; a token given from
//! outside ought to be as hard to guess.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::document::{Timestamp, hex, unhex};
use crate::rejection::Rejection;

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 512;
/// The longest name of a token, in bytes.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;

/// What a token is good for. No scope implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Sending documents and files.
    Save,
    /// Reading documents, receipts, streams, dead letters, summaries and files.
    Read,
    /// Erasing documents and redriving dead letters.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::Save, Self::Read, Self::Admin];

    /// Its name: `save`, `read` or `admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = Rejection;

    fn from_str(text: &str) -> Result<Self, Rejection> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(
            Rejection::ParameterInvalid { name: "scope", expected: "one of save, read, admin" },
        )
    }
}

/// A token as it is kept: its name, its scopes and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name, by which it is listed and revoked.
    pub name: String,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// When it was made, in microseconds since the epoch.
    pub created_us: i64,
    /// The SHA-256 of its text, in hexadecimal digits.
    pub sha256: String,
}

impl Token {
    /// Keeps `text` under `name`.
    pub fn new(name: &str, scopes: &[Scope], text: &str, created: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            created_us: created.as_micros(),
            sha256: hex(&hash(text)),
        }
    }
}

/// A new token's text: `inlet_` and 48 hexadecimal digits of the system's randomness.
///
/// # Errors
/// Where the operating system has no randomness to give.
pub fn new_token_text() -> Result<String, getrandom::Error> {
    let mut random = [0u8; 24];
    getrandom::fill(&mut random)?;
    Ok(format!("inlet_{}", hex(&random)))
}

/// All tokens that are good now.
#[derive(Debug, Default)]
pub struct TokenBook {
    /// By the first eight bytes of the hash. Which bucket a guess falls in tells nothing about
    /// the tokens, because the guesser can't choose hashes.
    by_prefix: HashMap<[u8; 8], Vec<([u8; 32], Caller)>>,
}

/// Whom a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name.
    pub name: Arc<str>,
    scopes: u8,
}

impl Caller {
    /// Whether it may do what `scope` allows.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes & (1 << scope as u8) != 0
    }
}

impl TokenBook {
    /// A book of these tokens. One whose hash is not 64 hexadecimal digits is left out.
    pub fn new<'a>(tokens: impl IntoIterator<Item = &'a Token>) -> Self {
        let mut book = Self::default();
        for token in tokens {
            if let Some(Ok(hash)) = unhex(&token.sha256).map(TryInto::try_into) {
                let scopes = token.scopes.iter().fold(0, |bits, scope| bits | 1 << *scope as u8);
                let caller = Caller { name: Arc::from(token.name.as_str()), scopes };
                book.by_prefix.entry(prefix(&hash)).or_default().push((hash, caller));
            }
        }
        book
    }

    /// Whose token `text` is, if it is anybody's. The time it takes tells nothing of how much of
    /// a guess is right.
    pub fn find(&self, text: &str) -> Option<&Caller> {
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let hash = hash(text);
        let candidates = self.by_prefix.get(&prefix(&hash))?;
        candidates.iter().find(|(known, _)| known.ct_eq(&hash).into()).map(|(_, caller)| caller)
    }
}

/// The token book in force, replaced whole when tokens are added or revoked.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Arc<RwLock<Arc<TokenBook>>>);

impl Tokens {
    /// Begins with this book.
    pub fn new(book: TokenBook) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(book))))
    }

    /// Puts this book in force.
    pub fn replace(&self, book: TokenBook) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
    }

    /// Whose token it is, and whether it has the scope.
    ///
    /// # Errors
    /// [`Rejection::TokenMissing`], [`Rejection::TokenUnknown`] or [`Rejection::ScopeMissing`].
    pub fn authorize(&self, text: Option<&str>, scope: Scope) -> Result<Caller, Rejection> {
        let text = text.filter(|text| !text.is_empty()).ok_or(Rejection::TokenMissing)?;
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let caller = book.find(text).ok_or(Rejection::TokenUnknown)?;
        if caller.may(scope) { Ok(caller.clone()) } else { Err(Rejection::ScopeMissing(scope)) }
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn prefix(hash: &[u8; 32]) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&hash[..8]);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let saver = Token::new("saver", &[Scope::Save], "secret", Timestamp::default());
        let reader = Token::new("reader", &[Scope::Read], "other", Timestamp::default());
        Tokens::new(TokenBook::new([&saver, &reader]))
    }

    #[test]
    fn a_token_is_good_for_its_scopes_only() {
        assert_eq!(&*tokens().authorize(Some("secret"), Scope::Save).unwrap().name, "saver");
        assert_eq!(
            tokens().authorize(Some("secret"), Scope::Read),
            Err(Rejection::ScopeMissing(Scope::Read))
        );
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for text in ["secre", "secrets", "Secret", long.as_str()] {
            assert_eq!(tokens().authorize(Some(text), Scope::Save), Err(Rejection::TokenUnknown));
        }
        for text in [None, Some("")] {
            assert_eq!(tokens().authorize(text, Scope::Save), Err(Rejection::TokenMissing));
        }
    }

    #[test]
    fn a_revoked_token_is_refused_at_once() {
        let tokens = tokens();
        tokens.replace(TokenBook::default());
        assert_eq!(tokens.authorize(Some("secret"), Scope::Save), Err(Rejection::TokenUnknown));
    }

    #[test]
    fn the_text_of_a_token_is_not_kept() {
        let token = Token::new("saver", &[Scope::Save], "secret", Timestamp::default());
        assert!(!serde_json::to_string(&token).unwrap().contains("secret"));
    }
}
