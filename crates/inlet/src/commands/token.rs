//! `inlet token`: through the server that is named or runs on the data directory, which alone knows
//! where its tokens are; where none runs, with the secrets of the settings.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use inlet_core::auth::Scope;
use inlet_core::auth::list::{self, LastAdmin, NewToken, described};
use inlet_core::auth::register::TokenRegister;
use inlet_core::document::StreamName;
use inlet_core::error::Error;
use inlet_core::ports::{Clock, Secrets, SystemClock};
use inlet_core::rejection::Rejection;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{RemoteArgs, TokenAddArgs, TokenCommand, TokenRevokeArgs};
use crate::client::{Client, encode};
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::report::{self, Hinted};
use crate::{moment, wire};

/// Lists, adds or revokes.
pub(crate) fn run(settings: &Settings, command: &TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::List(remote) => {
            let tokens = Place::of(settings, remote)?.list()?;
            tokens.iter().try_for_each(|token| print(token, remote.json.json))
        }
        TokenCommand::Add(args) => {
            let new = new_token(settings, args)?;
            let made = Place::of(settings, &args.remote)?.add(&new)?;
            if args.remote.json.json {
                return report::data(made);
            }
            report::say("This token is shown once; only its hash is kept.");
            report::data(made["token"].as_str().unwrap_or_default())
        }
        TokenCommand::Revoke(args) => {
            revoke(&Place::of(settings, &args.remote)?, args)?;
            match args.remote.json.json {
                true => report::data(json!({"revoked": args.name})),
                false => report::data(format_args!("revoked {}", args.name)),
            }
        }
    }
}

/// Where tokens are administered.
enum Place {
    /// At a server, which has them.
    Server(Client),
    /// With the secrets; no server runs.
    Secrets(Arc<dyn Secrets>, tokio::runtime::Runtime),
}

#[derive(Debug, Deserialize)]
struct Tokens {
    tokens: Vec<Value>,
}

impl Place {
    fn of(settings: &Settings, remote: &RemoteArgs) -> anyhow::Result<Self> {
        if remote.url.is_some() {
            return Ok(Self::Server(Client::new(remote, &settings.data)?));
        }
        let running = match DataDirectory::open(&settings.data) {
            Ok(data) => data.running()?,
            // Secrets that are kept elsewhere need no directory.
            Err(_) if !wire::has_secrets_in_data(settings) => None,
            Err(error) => return Err(error),
        };
        match running {
            Some(running) if running.token.is_some() => {
                Ok(Self::Server(Client::local(remote, &running)?))
            }
            Some(_) => {
                let message =
                    format!("an edge runs on {}, and has no tokens", settings.data.display());
                let hint = "name one of its instances with --url, or their directory with --data";
                Err(Hinted::new(message, hint).into())
            }
            None => {
                let runtime = wire::runtime()?;
                let secrets = runtime.block_on(wire::secrets_to_change(settings))?;
                Ok(Self::Secrets(secrets, runtime))
            }
        }
    }

    fn list(&self) -> anyhow::Result<Vec<Value>> {
        match self {
            Self::Server(client) => {
                let tokens: Tokens =
                    client.get("/api/admin/tokens")?.success("list tokens")?.json()?;
                Ok(tokens.tokens)
            }
            Self::Secrets(secrets, runtime) => runtime.block_on(async {
                let register = TokenRegister::open(Arc::clone(secrets), Vec::new()).await?;
                let (list, uses) = register.list().await?;
                Ok(list.tokens().iter().map(|token| described(token, &uses)).collect())
            }),
        }
    }

    fn add(&self, new: &NewToken) -> anyhow::Result<Value> {
        match self {
            Self::Server(client) => {
                let body = serde_json::to_vec(&json!({
                    "name": new.name,
                    "scopes": new.scopes,
                    "streams": new.streams,
                    "expires": new.expires.map(|moment| moment.to_string()),
                }))?;
                let headers = [("Content-Type", "application/json")];
                let answer = client.post("/api/admin/tokens", &headers, &body)?;
                answer.success(&format!("add the token {:?}", new.name))?.json()
            }
            Self::Secrets(secrets, runtime) => {
                let added = runtime.block_on(list::add(&**secrets, new, SystemClock.now()));
                let (token, text) = added.map_err(|error| refused(&new.name, error))?;
                let mut described = described(&token, &HashMap::new());
                described["token"] = text.into();
                Ok(described)
            }
        }
    }

    /// Revokes the token; false where it is the last that may administer, and is to be kept.
    fn revoke(&self, name: &str, last: LastAdmin) -> anyhow::Result<bool> {
        match self {
            Self::Server(client) => {
                let last = if last == LastAdmin::Revoke { "?last=true" } else { "" };
                let path = format!("/api/admin/tokens/{}{last}", encode(name));
                let answer = client.delete(&path)?;
                if answer.code().as_deref() == Some("LastAdminToken") {
                    return Ok(false);
                }
                let attempted = format!("revoke the token {name:?}");
                answer.success_or(&attempted, "`inlet token list` lists those there are")?;
                Ok(true)
            }
            Self::Secrets(secrets, runtime) => {
                let revoked =
                    runtime.block_on(list::revoke(&**secrets, name, last, SystemClock.now()));
                match revoked {
                    Ok(_) => Ok(true),
                    Err(Error::Rejected(Rejection::LastAdminToken)) => Ok(false),
                    Err(error) => Err(refused(name, error)),
                }
            }
        }
    }
}

fn revoke(place: &Place, args: &TokenRevokeArgs) -> anyhow::Result<()> {
    let last = if args.yes { LastAdmin::Revoke } else { LastAdmin::Keep };
    if place.revoke(&args.name, last)? {
        return Ok(());
    }
    let name = &args.name;
    let message = format!(
        "{name} is the last token that may administer: without it, tokens are made \
                           only on the server's own machine"
    );
    if !io::stdin().is_terminal() {
        return Err(Hinted::new(message, "pass `--yes` to revoke it, or make another first").into());
    }
    report::say(format_args!("{message}."));
    if !report::confirmed(&format!("Revoke {name}?"))? {
        return Err(Hinted::new(format!("{name} was not revoked"), "").into());
    }
    place.revoke(name, LastAdmin::Revoke).map(|_| ())
}

fn new_token(settings: &Settings, args: &TokenAddArgs) -> anyhow::Result<NewToken> {
    let usage = |error: Rejection| Hinted::usage(error.to_string(), "see `inlet token add --help`");
    let scopes = args.scopes.iter().map(|scope| scope.parse::<Scope>());
    let streams = args
        .streams
        .as_ref()
        .map(|names| names.iter().map(|name| StreamName::new(name)).collect::<Result<_, _>>());
    let expires = args.expires.as_deref().map(|typed| match moment::span("--expires", typed) {
        Ok(span) => Ok(moment::after(SystemClock.now(), span)),
        Err(_) => moment::parse("--expires", typed, &settings.calendar),
    });
    Ok(NewToken {
        name: args.name.clone(),
        scopes: scopes.collect::<Result<_, _>>().map_err(usage)?,
        streams: streams.transpose().map_err(usage)?,
        expires: expires.transpose()?,
    })
}

/// A refusal as a server would tell it, with what to do about it.
fn refused(name: &str, error: Error) -> anyhow::Error {
    let rejection = match error {
        Error::Rejected(rejection) => rejection,
        Error::Failed(failure) => return failure.into(),
    };
    match rejection {
        Rejection::NotFound => {
            let hint = "`inlet token list` lists those there are";
            Hinted::new(format!("there is no token named {name:?}"), hint).into()
        }
        Rejection::ParameterInvalid { .. } => Hinted::usage(rejection.to_string(), "").into(),
        _ => Hinted::new(format!("{name}: {rejection}"), "").into(),
    }
}

fn print(token: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return report::data(token);
    }
    let text = |name: &str| token[name].as_str().map(|moment| moment[..16].to_owned() + "Z");
    let list = |name: &str| match &token[name] {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        _ => "all".to_owned(),
    };
    report::data(format_args!(
        "{:<24} {:<16} streams {:<16} made {}  expires {:<17}  used {}",
        token["name"].as_str().unwrap_or_default(),
        list("scopes"),
        list("streams"),
        text("created").unwrap_or_default(),
        text("expires").unwrap_or_else(|| "never".to_owned()),
        text("last_used").unwrap_or_else(|| "never".to_owned()),
    ))
}
