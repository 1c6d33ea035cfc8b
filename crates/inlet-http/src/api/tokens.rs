//! `/api/admin/tokens`: the tokens of this deployment.

use std::collections::HashMap;

use http::StatusCode;
use inlet_core::auth::Scope;
use inlet_core::auth::list::{LastAdmin, NewToken, described};
use inlet_core::auth::register::TokenRegister;
use inlet_core::document::{StreamName, Timestamp};
use inlet_core::error::Error;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::json;
use inlet_core::rejection::Rejection;
use inlet_server::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{self, Handled};
use crate::call::Call;

/// How deep the description of a token may be nested.
const DEPTH_MAX: usize = 4;

/// Lists the tokens with their rights and their last use.
pub(crate) async fn list(call: &Call<'_>) -> Handled {
    call.query()?;
    let (list, uses) = register(call)?.list().await?;
    let tokens: Vec<Value> = list.tokens().iter().map(|token| described(token, &uses)).collect();
    Ok(answer::json(StatusCode::OK, &json!({"tokens": tokens})))
}

/// A token that is to be made, as a client describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    scopes: Vec<String>,
    #[serde(default)]
    streams: Option<Vec<String>>,
    #[serde(default)]
    expires: Option<String>,
}

/// Makes a token, and tells its text, once.
pub(crate) async fn add(call: &Call<'_>, body: Body) -> Handled {
    call.query()?;
    let register = register(call)?;
    let body = call.body(body).await?;
    if body.is_empty() {
        return Err(Rejection::BodyEmpty.into());
    }
    json::check(&body, DEPTH_MAX).map_err(Rejection::JsonInvalid)?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| {
        let expected = "an object with `name` and `scopes` (a list), and `streams` (a list) and \
                        `expires` where they are wanted";
        Rejection::ParameterInvalid { name: "body", expected }
    })?;
    let (token, text) = register.add(&wanted.read()?, call.app.clock.now()).await?;
    let mut described = described(&token, &HashMap::new());
    described["token"] = text.into();
    Ok(answer::json(StatusCode::CREATED, &described))
}

impl Wanted {
    fn read(self) -> Result<NewToken, Rejection> {
        let scopes = self.scopes.iter().map(|scope| scope.parse::<Scope>());
        let streams = self
            .streams
            .map(|names| names.iter().map(|name| StreamName::new(name)).collect::<Result<_, _>>());
        let expires = self.expires.map(|text| {
            Timestamp::from_rfc3339(&text).ok_or(Rejection::ParameterInvalid {
                name: "expires",
                expected: "a moment as in 2026-11-21T02:03:18Z",
            })
        });
        Ok(NewToken {
            name: self.name,
            scopes: scopes.collect::<Result<_, _>>()?,
            streams: streams.transpose()?,
            expires: expires.transpose()?,
        })
    }
}

/// Revokes a token; the last that may administer only where the query says so.
pub(crate) async fn revoke(call: &Call<'_>) -> Handled {
    let last = match call.query()?.get("last") {
        None | Some("false") => LastAdmin::Keep,
        Some("true") => LastAdmin::Revoke,
        Some(_) => {
            let expected = "true or false";
            return Err(Rejection::ParameterInvalid { name: "last", expected }.into());
        }
    };
    register(call)?.revoke(&call.parameter, last, call.app.clock.now()).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

fn register<'a>(call: &'a Call<'_>) -> Result<&'a TokenRegister, Error> {
    call.app.tokens.as_deref().ok_or_else(|| {
        Failure::new(FailureKind::Refused, "administer tokens at", "an instance without secrets")
            .into()
    })
}
