//! The tokens as they are kept with the secrets.

use anyhow::Context;
use inlet_core::auth::{Scope, TOKEN_NAME_BYTES_MAX, Token, TokenBook, new_token_text};
use inlet_core::document::Timestamp;
use inlet_core::ports::Secrets;
use serde::{Deserialize, Serialize};

use crate::report::Hinted;

/// The secret that holds the tokens.
const TOKENS: &str = "tokens";
/// The most tokens there may be.
const TOKENS_MAX: usize = 10_000;
/// The name of the token that the environment gives.
const OUTSIDE: &str = "INLET_TOKEN";

/// The tokens as they are kept.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenFile {
    // A deployment makes the secret as an empty object.
    #[serde(default)]
    pub(crate) tokens: Vec<Token>,
}

impl TokenFile {
    /// Reads the tokens; none where none were ever kept.
    pub(crate) async fn read(secrets: &dyn Secrets) -> anyhow::Result<Self> {
        let Some(bytes) = secrets.get(TOKENS).await? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).context("the secret `tokens` is not what Inlet wrote")
    }

    /// Makes a token, keeps its hash, and returns its text.
    pub(crate) fn add(
        &mut self,
        name: &str,
        scopes: &[Scope],
        now: Timestamp,
    ) -> anyhow::Result<String> {
        let fits = (1..=TOKEN_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
        if !fits || name == OUTSIDE {
            let hint = "use 1 to 64 letters, digits, dashes, dots and @";
            return Err(Hinted::usage(format!("{name:?} is no name for a token"), hint).into());
        }
        if self.tokens.iter().any(|token| token.name == name) {
            let hint = "revoke it first, or choose another name";
            return Err(Hinted::new(format!("there is a token named {name:?}"), hint).into());
        }
        if self.tokens.len() >= TOKENS_MAX {
            let hint = "revoke those that are not used";
            return Err(Hinted::new(format!("there are {TOKENS_MAX} tokens already"), hint).into());
        }
        let text = new_token_text().context("could not get randomness from the system")?;
        self.tokens.push(Token::new(name, scopes, &text, now));
        Ok(text)
    }

    /// Takes the token with that name away.
    pub(crate) fn revoke(&mut self, name: &str) -> anyhow::Result<()> {
        let before = self.tokens.len();
        self.tokens.retain(|token| token.name != name);
        if self.tokens.len() == before {
            let hint = "`inlet token list` lists those there are";
            return Err(Hinted::new(format!("there is no token named {name:?}"), hint).into());
        }
        Ok(())
    }

    /// Keeps the tokens.
    pub(crate) async fn write(&self, secrets: &dyn Secrets) -> anyhow::Result<()> {
        Ok(secrets.put(TOKENS, &serde_json::to_vec_pretty(self)?).await?)
    }

    /// The book of these tokens and of the one that the environment gives, if it gives one.
    pub(crate) fn book(&self, outside: Option<&str>) -> TokenBook {
        let outside =
            outside.map(|text| Token::new(OUTSIDE, &Scope::ALL, text, Timestamp::default()));
        TokenBook::new(self.tokens.iter().chain(&outside))
    }
}

/// The token that the environment gives, if it gives one.
pub(crate) fn outside() -> Option<String> {
    std::env::var(OUTSIDE).ok().filter(|text| !text.is_empty())
}
