//! The tokens as they are kept with the secrets, and their changes.
//!
//! Every change is a compare-and-set: of two that change the list at once, in any two processes,
//! neither loses what the other did.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Scope, TOKEN_NAME_BYTES_MAX, TOKEN_STREAMS_MAX, Token, TokenBook, Tokens, new_token_text,
};
use crate::document::{StreamName, Timestamp};
use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::ports::{SECRET_BYTES_MAX, Secrets, Swapped};
use crate::rejection::Rejection;

/// The secret that holds the tokens.
const TOKENS: &str = "tokens";
/// The secret that holds when each token was last used.
const USES: &str = "token-uses";
/// The name of the token that the environment gives, which is in no list.
pub const OUTSIDE: &str = "INLET_TOKEN";
/// The name of the token that a server makes for the command line on its own machine, which is in
/// no list.
pub const LOCAL: &str = "INLET_LOCAL";
/// How often a change is tried while others change the list at the same time.
const ROUNDS_MAX: u32 = 64;
/// A use that is kept already is kept anew once it is this much later, in microseconds: an hour.
/// Each put of a secret may cost money, and makes a version of it.
pub const USES_KEPT_EVERY_US: i64 = 3_600_000_000;

/// The tokens, in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    // A deployment makes the secret as an empty object.
    #[serde(default)]
    tokens: Vec<Token>,
}

/// The rights of a token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its name: 1 to [`TOKEN_NAME_BYTES_MAX`] of `A-Z a-z 0-9 - _ . @`, not yet in the list.
    pub name: String,
    /// What it is good for; at least one.
    pub scopes: Vec<Scope>,
    /// The streams it is limited to, at most [`TOKEN_STREAMS_MAX`]; all where `None`.
    pub streams: Option<Vec<StreamName>>,
    /// From when on it is refused; never where `None`.
    pub expires: Option<Timestamp>,
}

/// Whether the last token with the scope `admin` may be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastAdmin {
    /// It is refused.
    Keep,
    /// It goes as any other.
    Revoke,
}

impl TokenList {
    /// Reads the list; it is empty where none was ever kept.
    ///
    /// # Errors
    /// Where the secrets fail, and [`FailureKind::Damaged`] where the secret is no list of tokens.
    pub async fn read(secrets: &dyn Secrets) -> Result<Self, Failure> {
        Self::parse(secrets.get(TOKENS).await?.as_deref())
    }

    fn parse(kept: Option<&[u8]>) -> Result<Self, Failure> {
        let Some(bytes) = kept else { return Ok(Self::default()) };
        // The cause is left out: it may quote what stands there.
        serde_json::from_slice(bytes).map_err(|_| {
            Failure::new(FailureKind::Damaged, "read the secret", TOKENS)
                .hint("it should be an object with the member `tokens`, as Inlet wrote it")
        })
    }

    /// The tokens, in the order in which they were made.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Whether a token that is good at `now` has this text.
    pub fn has(&self, text: &str, now: Timestamp) -> bool {
        self.tokens.iter().any(|token| token.is(text) && !token.is_expired(now))
    }

    /// The book of these tokens, and of others that are in no list.
    pub fn book(&self, others: &[Token]) -> TokenBook {
        TokenBook::new(self.tokens.iter().chain(others))
    }

    fn add(&mut self, new: &NewToken, text: &str, now: Timestamp) -> Result<Token, Rejection> {
        let NewToken { name, scopes, streams, expires } = new;
        let fits = (1..=TOKEN_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
        if !fits || name == OUTSIDE || name == LOCAL {
            let expected = "1 to 64 letters, digits, dashes, dots, underscores and @";
            return Err(Rejection::ParameterInvalid { name: "name", expected });
        }
        if scopes.is_empty() {
            let expected = "one or more of save, read, admin";
            return Err(Rejection::ParameterInvalid { name: "scopes", expected });
        }
        if streams.as_ref().is_some_and(|s| s.is_empty() || s.len() > TOKEN_STREAMS_MAX) {
            let expected = "1 to 32 streams, or none for all of them";
            return Err(Rejection::ParameterInvalid { name: "streams", expected });
        }
        if expires.is_some_and(|expires| expires <= now) {
            let expected = "a moment that is still to come";
            return Err(Rejection::ParameterInvalid { name: "expires", expected });
        }
        if self.tokens.iter().any(|token| token.name == *name) {
            return Err(Rejection::TokenNameTaken);
        }
        let mut scopes = scopes.clone();
        scopes.sort_unstable();
        scopes.dedup();
        let mut token = Token::new(name, &scopes, text, now);
        token.streams = streams.clone();
        token.expires_us = expires.map(Timestamp::as_micros);
        self.tokens.push(token.clone());
        Ok(token)
    }

    fn revoke(&mut self, name: &str, last: LastAdmin, now: Timestamp) -> Result<Token, Rejection> {
        let is_admin =
            |token: &Token| token.scopes.contains(&Scope::Admin) && !token.is_expired(now);
        let at = self.tokens.iter().position(|token| token.name == name);
        let at = at.ok_or(Rejection::NotFound)?;
        let admins = self.tokens.iter().filter(|token| is_admin(token)).count();
        if last == LastAdmin::Keep && is_admin(&self.tokens[at]) && admins == 1 {
            return Err(Rejection::LastAdminToken);
        }
        Ok(self.tokens.remove(at))
    }
}

/// What is told of a token: all but its hash, with its last use where `uses` has it.
pub fn described(token: &Token, uses: &HashMap<String, Timestamp>) -> Value {
    json!({
        "name": token.name,
        "scopes": token.scopes,
        "streams": token.streams,
        "created": Timestamp::from_micros(token.created_us).to_string(),
        "expires": token.expires_us.map(|us| Timestamp::from_micros(us).to_string()),
        "last_used": uses.get(&token.sha256).map(Timestamp::to_string),
    })
}

/// A token that is in no list, with all scopes: [`OUTSIDE`] or [`LOCAL`].
pub fn unlisted(name: &str, text: &str) -> Token {
    Token::new(name, &Scope::ALL, text, Timestamp::default())
}

/// Makes a token, keeps its hash, and returns it with its text.
///
/// # Errors
/// A [`Rejection`] where a right does not fit, the name is taken or there is no room for another;
/// a [`Failure`] where the secrets fail.
pub async fn add(
    secrets: &dyn Secrets,
    new: &NewToken,
    now: Timestamp,
) -> Result<(Token, String), Error> {
    let text = new_token_text().map_err(|error| {
        Failure::new(FailureKind::Unavailable, "make a token from", "the system's randomness")
            .because(error)
    })?;
    let token = change(secrets, |list| list.add(new, &text, now)).await?;
    Ok((token, text))
}

/// Keeps `text` as the first token, with all scopes, if there is no token yet; tells whether there
/// was none.
///
/// # Errors
/// A [`Failure`] where the secrets fail.
pub async fn add_first(
    secrets: &dyn Secrets,
    name: &str,
    text: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let scopes = Scope::ALL.to_vec();
    let new = NewToken { name: name.to_owned(), scopes, streams: None, expires: None };
    let added = change(secrets, |list| {
        if list.tokens.is_empty() { list.add(&new, text, now).map(Some) } else { Ok(None) }
    });
    Ok(added.await?.is_some())
}

/// Revokes the token with that name, and returns it.
///
/// # Errors
/// [`Rejection::NotFound`], or [`Rejection::LastAdminToken`] as `last` has it; a [`Failure`] where
/// the secrets fail.
pub async fn revoke(
    secrets: &dyn Secrets,
    name: &str,
    last: LastAdmin,
    now: Timestamp,
) -> Result<Token, Error> {
    change(secrets, |list| list.revoke(name, last, now)).await
}

/// Applies `edit` to the list that is kept, again where another change came first. An edit that
/// fails changes nothing.
async fn change<T>(
    secrets: &dyn Secrets,
    mut edit: impl FnMut(&mut TokenList) -> Result<T, Rejection>,
) -> Result<T, Error> {
    let mut kept = secrets.get(TOKENS).await?;
    for _ in 0..ROUNDS_MAX {
        let before = TokenList::parse(kept.as_deref())?;
        let mut list = before.clone();
        let edited = edit(&mut list);
        let value = match (list == before, &kept) {
            // `get` may give a value of a moment ago; a swap with itself asks for the current one.
            (true, Some(kept)) => kept.clone(),
            (true, None) => return Ok(edited?),
            (false, _) => serde_json::to_vec(&list).expect("a list of tokens has text for names"),
        };
        if value.len() > SECRET_BYTES_MAX {
            return Err(Rejection::TokenLimit.into());
        }
        match secrets.swap(TOKENS, kept.as_deref(), &value).await? {
            Swapped::Done => return Ok(edited?),
            Swapped::Other(other) => kept = other,
        }
    }
    Err(Failure::new(FailureKind::Unavailable, "change the secret", TOKENS)
        .because("others kept changing it at the same time")
        .into())
}

/// When each token was last used, anywhere: what is kept, and what `here` knows besides; by the
/// hash of the token.
///
/// # Errors
/// Where the secrets fail.
pub async fn uses(
    secrets: &dyn Secrets,
    here: &Tokens,
) -> Result<HashMap<String, Timestamp>, Failure> {
    let mut uses = kept_uses(secrets.get(USES).await?.as_deref());
    merge(&mut uses, here.uses(), 0);
    let in_time = |(hash, us)| (hash, Timestamp::from_micros(us));
    Ok(uses.into_iter().map(in_time).collect())
}

/// Keeps the last uses that `here` knows and that are not kept yet, or were kept more than an hour
/// before. Uses of tokens that are gone are dropped.
///
/// # Errors
/// Where the secrets fail, or may only be read.
pub async fn keep_uses(secrets: &dyn Secrets, here: &Tokens) -> Result<(), Failure> {
    let known = here.uses();
    if known.is_empty() {
        return Ok(());
    }
    let list = TokenList::read(secrets).await?;
    let mut kept = secrets.get(USES).await?;
    for _ in 0..ROUNDS_MAX {
        let mut uses = kept_uses(kept.as_deref());
        let is_newer = merge(&mut uses, known.clone(), USES_KEPT_EVERY_US);
        if !is_newer {
            return Ok(());
        }
        uses.retain(|hash, _| list.tokens.iter().any(|token| token.sha256 == *hash));
        let value = serde_json::to_vec(&uses).expect("a map of numbers has text for names");
        match secrets.swap(USES, kept.as_deref(), &value).await? {
            Swapped::Done => return Ok(()),
            Swapped::Other(other) => kept = other,
        }
    }
    // Others keep theirs; these uses are kept with the next.
    Ok(())
}

/// What is kept. What can't be read is as if nothing were: the next use is kept again.
fn kept_uses(kept: Option<&[u8]>) -> HashMap<String, i64> {
    kept.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
}

/// Takes over the uses that are at least `after_us` later; tells whether there was one.
fn merge(
    uses: &mut HashMap<String, i64>,
    known: HashMap<String, Timestamp>,
    after_us: i64,
) -> bool {
    let mut is_newer = false;
    for (hash, used) in known {
        let kept = uses.entry(hash).or_insert(0);
        if used.as_micros() > kept.saturating_add(after_us) {
            *kept = used.as_micros();
            is_newer = true;
        }
    }
    is_newer
}
