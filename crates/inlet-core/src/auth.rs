//! Tokens: who may do what.
//!
//! A token is text that only its holder has; its SHA-256 is kept. Tokens that Inlet makes carry
//! 192 random bits, so their hash needs no salt and no stretching; one given from outside ought to
//! be as hard to guess, and is refused where it is too short to be.
//!
//! [`list`] has the tokens as they are kept with the secrets, [`TokenBook`] those in force, and
//! [`register`] both for a process that serves.

pub mod list;
pub mod register;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::document::{StreamName, Timestamp, hex, unhex};
use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::rejection::Rejection;

/// The longest token that is looked up, in bytes.
pub const TOKEN_BYTES_MAX: usize = 512;
/// The shortest token that is taken from outside, in bytes.
pub const TOKEN_BYTES_MIN: usize = 16;
/// The longest name of a token, in bytes.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;
/// The most streams a token may be limited to.
pub const TOKEN_STREAMS_MAX: usize = 32;

/// How exactly the last use of a token is known, in microseconds: a minute. Noting every use
/// would have all serving threads write to one place.
const USE_EVERY_US: i64 = 60_000_000;

/// What a token is good for. No scope implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Sending documents and files.
    Save,
    /// Reading documents, receipts, streams, dead letters, summaries and files.
    Read,
    /// Erasing documents, redriving dead letters, and the admin API.
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
            Rejection::ParameterInvalid { name: "scopes", expected: "one of save, read, admin" },
        )
    }
}

/// A token as it is kept: its name, its rights and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name, by which it is listed and revoked.
    pub name: String,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// The streams it is limited to; all where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Vec<StreamName>>,
    /// When it was made, in microseconds since the epoch.
    pub created_us: i64,
    /// From when on it is refused, in microseconds since the epoch; never where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_us: Option<i64>,
    /// The SHA-256 of its text, in hexadecimal digits.
    pub sha256: String,
}

impl Token {
    /// Keeps `text` under `name`, good for all streams and for ever.
    pub fn new(name: &str, scopes: &[Scope], text: &str, created: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            streams: None,
            created_us: created.as_micros(),
            expires_us: None,
            sha256: sha256(text),
        }
    }

    /// Whether `text` is this token's.
    pub fn is(&self, text: &str) -> bool {
        self.sha256.as_bytes().ct_eq(sha256(text).as_bytes()).into()
    }

    /// Whether it is no longer good at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_us.is_some_and(|expires_us| expires_us <= now.as_micros())
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

/// Why a text that was given from outside is no token. It does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenTextError {
    /// It is too short to be a secret.
    #[error("it has {0} characters, and a secret has at least {TOKEN_BYTES_MIN}")]
    TooShort(usize),
    /// It is longer than any token that is looked at.
    #[error("it has {0} characters, and a token has at most {TOKEN_BYTES_MAX}")]
    TooLong(usize),
    /// A client could not send it in a header as it is.
    #[error("its character {0} is a space, a line break or not ASCII")]
    CharacterInvalid(usize),
}

/// The token in `given`: [`TOKEN_BYTES_MIN`] to [`TOKEN_BYTES_MAX`] visible ASCII characters. A
/// line break at the end is left out: it comes with a file or an `echo`, and was not meant.
///
/// # Errors
/// [`TokenTextError`] for anything else.
pub fn token_text(given: &str) -> Result<&str, TokenTextError> {
    let text = given.strip_suffix('\n').unwrap_or(given);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if let Some(at) = text.chars().position(|character| !character.is_ascii_graphic()) {
        return Err(TokenTextError::CharacterInvalid(at + 1));
    }
    match text.len() {
        length if length < TOKEN_BYTES_MIN => Err(TokenTextError::TooShort(length)),
        length if length > TOKEN_BYTES_MAX => Err(TokenTextError::TooLong(length)),
        _ => Ok(text),
    }
}

/// All tokens in force.
#[derive(Debug, Default)]
pub struct TokenBook {
    /// By the first eight bytes of the hash. Which bucket a guess falls in tells nothing about
    /// the tokens, because the guesser can't choose hashes.
    by_prefix: HashMap<[u8; 8], Vec<Entry>>,
    /// Set if there may be tokens that are not in it.
    is_partial: bool,
}

#[derive(Debug)]
struct Entry {
    hash: [u8; 32],
    caller: Caller,
    expires_us: Option<i64>,
    /// When it was last used, in microseconds since the epoch; 0 for not yet. It outlives the
    /// book, so that a change of other tokens forgets nothing.
    used_us: Arc<AtomicI64>,
}

/// The holder of a token, and its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name.
    pub name: Arc<str>,
    scopes: u8,
    streams: Option<Arc<[StreamName]>>,
}

impl Caller {
    /// Whether it has `scope`.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes & (1 << scope as u8) != 0
    }

    /// The streams it is limited to; `None` where it is limited to none.
    pub fn streams(&self) -> Option<&[StreamName]> {
        self.streams.as_deref()
    }

    /// The stream of documents that name none: the one it is limited to, else `default`.
    pub fn default_stream(&self) -> StreamName {
        match self.streams() {
            Some([only]) => only.clone(),
            _ => StreamName::default(),
        }
    }

    /// Whether it may use `stream`.
    pub fn may_use(&self, stream: &StreamName) -> bool {
        self.streams().is_none_or(|streams| streams.contains(stream))
    }

    /// Refuses a stream that it may not use.
    ///
    /// # Errors
    /// [`Rejection::StreamForbidden`].
    pub fn check_stream(&self, stream: &StreamName) -> Result<(), Rejection> {
        if self.may_use(stream) { Ok(()) } else { Err(Rejection::StreamForbidden(stream.clone())) }
    }
}

impl TokenBook {
    /// A book of these tokens. One whose hash is not 64 hexadecimal digits is left out.
    pub fn new<'a>(tokens: impl IntoIterator<Item = &'a Token>) -> Self {
        let mut book = Self::default();
        for token in tokens {
            if let Some(Ok(hash)) = unhex(&token.sha256).map(TryInto::try_into) {
                let scopes = token.scopes.iter().fold(0, |bits, scope| bits | 1 << *scope as u8);
                let streams = token.streams.as_deref().map(Arc::from);
                let caller = Caller { name: Arc::from(token.name.as_str()), scopes, streams };
                let (expires_us, used_us) = (token.expires_us, Arc::default());
                let entry = Entry { hash, caller, expires_us, used_us };
                book.by_prefix.entry(prefix(&hash)).or_default().push(entry);
            }
        }
        book
    }

    /// The same book where there may be other tokens as well, because the secrets could not be
    /// read yet: a token that is not in it is answered as an outage, and not as unknown.
    #[must_use]
    pub fn partial(self) -> Self {
        Self { is_partial: true, ..self }
    }

    /// The token with this text, if there is one. The time it takes tells nothing of how much of
    /// a guess is right.
    fn find(&self, text: &str) -> Option<&Entry> {
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let hash = hash(text);
        let candidates = self.by_prefix.get(&prefix(&hash))?;
        candidates.iter().find(|entry| entry.hash.ct_eq(&hash).into())
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.by_prefix.values().flatten()
    }

    fn entry(&self, hash: &[u8; 32]) -> Option<&Entry> {
        self.by_prefix.get(&prefix(hash))?.iter().find(|entry| entry.hash == *hash)
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

    /// Puts this book in force. Tokens of the book before keep when they were last used.
    pub fn replace(&self, mut book: TokenBook) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for entry in book.by_prefix.values_mut().flatten() {
            if let Some(before) = current.entry(&entry.hash) {
                entry.used_us = Arc::clone(&before.used_us);
            }
        }
        *current = Arc::new(book);
    }

    /// The holder of the token `text`, if it has the scope and is good at `now`.
    ///
    /// # Errors
    /// [`Rejection::TokenMissing`], [`Rejection::TokenUnknown`], [`Rejection::TokenExpired`] or
    /// [`Rejection::ScopeMissing`]; [`FailureKind::Unavailable`] for a token that is not in a book
    /// that is [partial](TokenBook::partial).
    pub fn authorize(
        &self,
        text: Option<&str>,
        scope: Scope,
        now: Timestamp,
    ) -> Result<Caller, Error> {
        let text = text.filter(|text| !text.is_empty()).ok_or(Rejection::TokenMissing)?;
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Entry { caller, expires_us, used_us, .. }) = book.find(text) else {
            if book.is_partial {
                let (kind, what) = (FailureKind::Unavailable, "a token");
                return Err(Failure::new(kind, "look up", what)
                    .because("the secrets could not be read yet")
                    .into());
            }
            return Err(Rejection::TokenUnknown.into());
        };
        let now_us = now.as_micros();
        if expires_us.is_some_and(|expires_us| expires_us <= now_us) {
            return Err(Rejection::TokenExpired.into());
        }
        if !caller.may(scope) {
            return Err(Rejection::ScopeMissing(scope).into());
        }
        if now_us.saturating_sub(used_us.load(Ordering::Relaxed)) >= USE_EVERY_US {
            used_us.store(now_us, Ordering::Relaxed);
        }
        Ok(caller.clone())
    }

    /// When each token of the book in force was last used here, by its hash in hexadecimal
    /// digits; to the minute. Tokens that were not used are left out.
    pub fn uses(&self) -> HashMap<String, Timestamp> {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let used = book.entries().filter_map(|entry| match entry.used_us.load(Ordering::Relaxed) {
            0 => None,
            used_us => Some((hex(&entry.hash), Timestamp::from_micros(used_us))),
        });
        used.collect()
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn sha256(text: &str) -> String {
    hex(&hash(text))
}

fn prefix(hash: &[u8; 32]) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&hash[..8]);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_795_226_598_000_000);

    fn tokens() -> Tokens {
        let saver = Token::new("saver", &[Scope::Save], "secret", Timestamp::default());
        let reader = Token::new("reader", &[Scope::Read], "other", Timestamp::default());
        Tokens::new(TokenBook::new([&saver, &reader]))
    }

    fn authorize(tokens: &Tokens, text: Option<&str>, scope: Scope) -> Result<Caller, Rejection> {
        rejected(tokens.authorize(text, scope, NOW))
    }

    fn rejected(result: Result<Caller, Error>) -> Result<Caller, Rejection> {
        result.map_err(|error| match error {
            Error::Rejected(rejection) => rejection,
            Error::Failed(failure) => panic!("{failure}"),
        })
    }

    #[test]
    fn a_token_is_good_for_its_scopes_only() {
        let caller = authorize(&tokens(), Some("secret"), Scope::Save).unwrap();
        assert_eq!(&*caller.name, "saver");
        assert_eq!(
            authorize(&tokens(), Some("secret"), Scope::Read),
            Err(Rejection::ScopeMissing(Scope::Read))
        );
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for text in ["secre", "secrets", "Secret", long.as_str()] {
            let found = authorize(&tokens(), Some(text), Scope::Save);
            assert_eq!(found, Err(Rejection::TokenUnknown));
        }
        for text in [None, Some("")] {
            assert_eq!(authorize(&tokens(), text, Scope::Save), Err(Rejection::TokenMissing));
        }
    }

    #[test]
    fn a_revoked_token_is_refused_at_once() {
        let tokens = tokens();
        tokens.replace(TokenBook::default());
        assert_eq!(authorize(&tokens, Some("secret"), Scope::Save), Err(Rejection::TokenUnknown));
    }

    #[test]
    fn a_token_that_a_partial_book_lacks_is_an_outage_and_not_unknown() {
        let tokens = tokens();
        let saver = Token::new("saver", &[Scope::Save], "secret", Timestamp::default());
        tokens.replace(TokenBook::new([&saver]).partial());
        assert!(authorize(&tokens, Some("secret"), Scope::Save).is_ok());
        assert_eq!(authorize(&tokens, None, Scope::Save), Err(Rejection::TokenMissing));
        match tokens.authorize(Some("another"), Scope::Save, NOW) {
            Err(Error::Failed(failure)) => assert!(failure.is_retryable()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_is_refused_from_its_expiry_on() {
        let mut token = Token::new("t", &[Scope::Save], "secret", Timestamp::default());
        token.expires_us = Some(NOW.as_micros());
        let tokens = Tokens::new(TokenBook::new([&token]));
        let before = Timestamp::from_micros(NOW.as_micros() - 1);
        assert!(tokens.authorize(Some("secret"), Scope::Save, before).is_ok());
        assert_eq!(authorize(&tokens, Some("secret"), Scope::Save), Err(Rejection::TokenExpired));
    }

    #[test]
    fn a_token_limited_to_streams_is_good_for_no_other() {
        let (orders, returns) =
            (StreamName::new("orders").unwrap(), StreamName::new("returns").unwrap());
        let mut token = Token::new("t", &[Scope::Save], "secret", Timestamp::default());
        token.streams = Some(vec![orders.clone()]);
        let tokens = Tokens::new(TokenBook::new([&token]));
        let caller = authorize(&tokens, Some("secret"), Scope::Save).unwrap();
        assert_eq!(caller.check_stream(&orders), Ok(()));
        assert_eq!(caller.check_stream(&returns), Err(Rejection::StreamForbidden(returns)));
    }

    #[test]
    fn the_last_use_is_known_to_the_minute_and_survives_a_change_of_tokens() {
        let tokens = tokens();
        assert!(tokens.uses().is_empty());
        let at = |seconds: i64| Timestamp::from_micros(NOW.as_micros() + seconds * 1_000_000);
        for seconds in [0, 59, 61, 62] {
            tokens.authorize(Some("secret"), Scope::Save, at(seconds)).unwrap();
        }
        let saver = Token::new("saver", &[Scope::Save], "secret", Timestamp::default());
        tokens.replace(TokenBook::new([&saver]));
        assert_eq!(tokens.uses(), HashMap::from([(saver.sha256, at(61))]));
    }

    #[test]
    fn a_token_from_outside_loses_a_line_break_and_is_refused_where_it_is_no_secret() {
        let good = "0123456789abcdef";
        for given in [good.to_owned(), format!("{good}\n"), format!("{good}\r\n")] {
            assert_eq!(token_text(&given), Ok(good), "{given:?}");
        }
        let table = [
            ("abc".to_owned(), TokenTextError::TooShort(3)),
            ("\n".to_owned(), TokenTextError::TooShort(0)),
            (good[1..].to_owned(), TokenTextError::TooShort(15)),
            ("x".repeat(513), TokenTextError::TooLong(513)),
            (format!(" {good}"), TokenTextError::CharacterInvalid(1)),
            (format!("{good} "), TokenTextError::CharacterInvalid(17)),
            (format!("{good}\n\n"), TokenTextError::CharacterInvalid(17)),
            (format!("{good}\t{good}"), TokenTextError::CharacterInvalid(17)),
            (format!("{good}\n{good}"), TokenTextError::CharacterInvalid(17)),
            (format!("{good}ä"), TokenTextError::CharacterInvalid(17)),
        ];
        for (given, error) in table {
            assert_eq!(token_text(&given), Err(error), "{given:?}");
            assert!(!error.to_string().contains(given.trim()) || given.trim().is_empty());
        }
    }

    #[test]
    fn the_text_of_a_token_is_not_kept() {
        let token = Token::new("saver", &[Scope::Save], "secret", Timestamp::default());
        assert!(!serde_json::to_string(&token).unwrap().contains("secret"));
        assert!(token.is("secret") && !token.is("Secret"));
    }
}
