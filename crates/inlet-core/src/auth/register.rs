//! The tokens of a process that serves: the list that is kept, and the book in force.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::list::{self, LastAdmin, NewToken, OUTSIDE, TokenList};
use super::{Token, Tokens};
use crate::document::Timestamp;
use crate::error::Error;
use crate::failure::Failure;
use crate::ports::Secrets;

/// Keeps the book in force equal to the list.
pub struct TokenRegister {
    secrets: Arc<dyn Secrets>,
    tokens: Tokens,
    /// Tokens that are in no list.
    others: Vec<Token>,
    known: Mutex<Known>,
}

/// The list that the book in force was made from.
struct Known {
    list: Arc<TokenList>,
    /// True if it was read from the secrets.
    is_read: bool,
}

impl TokenRegister {
    /// Reads the list, and puts it in force with `others`, which are in no list.
    ///
    /// # Errors
    /// Where the secrets fail.
    pub async fn open(secrets: Arc<dyn Secrets>, others: Vec<Token>) -> Result<Self, Failure> {
        let list = TokenList::read(&*secrets).await?;
        let tokens = Tokens::new(list.book(&others));
        let known = Known { list: Arc::new(list), is_read: true };
        Ok(Self { secrets, tokens, others, known: Mutex::new(known) })
    }

    /// Puts `list`, which was known before, in force with `others`, because the secrets can't be
    /// read yet. Until [`refresh`](Self::refresh) has read them, a token that is in neither is
    /// answered as an outage, and not as unknown.
    pub fn unread(secrets: Arc<dyn Secrets>, others: Vec<Token>, list: TokenList) -> Self {
        let tokens = Tokens::new(list.book(&others).partial());
        let known = Known { list: Arc::new(list), is_read: false };
        Self { secrets, tokens, others, known: Mutex::new(known) }
    }

    /// The tokens in force.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The list in force. While it does not change, it is the same allocation.
    pub fn known(&self) -> Arc<TokenList> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner).list)
    }

    /// Reads the list again, and puts it in force if it has changed.
    ///
    /// # Errors
    /// Where the secrets fail. The tokens in force stay as they are.
    pub async fn refresh(&self) -> Result<Arc<TokenList>, Failure> {
        let list = TokenList::read(&*self.secrets).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_read || *known.list != list {
            self.tokens.replace(list.book(&self.others));
            *known = Known { list: Arc::new(list), is_read: true };
        }
        Ok(Arc::clone(&known.list))
    }

    /// The list, and when its tokens were last used, by their hashes.
    ///
    /// # Errors
    /// Where the secrets fail.
    pub async fn list(&self) -> Result<(TokenList, HashMap<String, Timestamp>), Failure> {
        let list = TokenList::read(&*self.secrets).await?;
        Ok((list, list::uses(&*self.secrets, &self.tokens).await?))
    }

    /// Makes a token, which is good here at once, and returns it with its text.
    ///
    /// # Errors
    /// As [`list::add`].
    pub async fn add(&self, new: &NewToken, now: Timestamp) -> Result<(Token, String), Error> {
        let added = list::add(&*self.secrets, new, now).await?;
        self.refresh().await?;
        Ok(added)
    }

    /// Revokes a token, which is refused here at once. Where the environment gives one, no token
    /// of the list is the last that may administer.
    ///
    /// # Errors
    /// As [`list::revoke`].
    pub async fn revoke(&self, name: &str, last: LastAdmin, now: Timestamp) -> Result<(), Error> {
        let has_outside = self.others.iter().any(|token| token.name == OUTSIDE);
        let last = if has_outside { LastAdmin::Revoke } else { last };
        list::revoke(&*self.secrets, name, last, now).await?;
        self.refresh().await?;
        Ok(())
    }

    /// Keeps when tokens were last used here; see [`list::keep_uses`].
    ///
    /// # Errors
    /// Where the secrets fail, or may only be read.
    pub async fn keep_uses(&self) -> Result<(), Failure> {
        list::keep_uses(&*self.secrets, &self.tokens).await
    }
}
