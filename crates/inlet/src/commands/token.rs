//! `inlet token`: the tokens that are kept; a running server takes a change up within a second.

use inlet_core::auth::Scope;
use inlet_core::auth::list::{self, LastAdmin, NewToken, TokenList};
use inlet_core::document::Timestamp;
use inlet_core::ports::{Clock, SystemClock};
use serde_json::json;

use crate::cli::TokenCommand;
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::{report, wire};

/// Lists, adds or revokes.
pub(crate) fn run(settings: &Settings, command: &TokenCommand) -> anyhow::Result<()> {
    let data = DataDirectory::open(&settings.data)?;
    wire::runtime()?.block_on(async {
        let secrets = wire::secrets(settings, &data).await?;
        match command {
            TokenCommand::List(args) => print(&TokenList::read(&*secrets).await?, args.json),
            TokenCommand::Add { name, scopes, json } => {
                let scopes = scopes
                    .iter()
                    .map(|scope| scope.parse::<Scope>())
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| report::Hinted::usage(error.to_string(), ""))?;
                let new = NewToken { name: name.clone(), scopes, streams: None, expires: None };
                let (token, text) = list::add(&*secrets, &new, SystemClock.now()).await?;
                if json.json {
                    let scopes = token.scopes;
                    return report::data(json!({"name": name, "scopes": scopes, "token": text}));
                }
                report::say("This token is shown once; only its hash is kept.");
                report::data(text)
            }
            TokenCommand::Revoke { name } => {
                let (last, now) = (LastAdmin::Revoke, SystemClock.now());
                list::revoke(&*secrets, name, last, now).await?;
                report::say(format_args!("{name} is revoked."));
                Ok(())
            }
        }
    })
}

fn print(list: &TokenList, as_json: bool) -> anyhow::Result<()> {
    for token in list.tokens() {
        let created = Timestamp::from_micros(token.created_us);
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        if as_json {
            report::data(json!({
                "name": token.name,
                "scopes": scopes,
                "created": created.to_string(),
            }))?;
        } else {
            report::data(format_args!("{:<24} {:<16} {created}", token.name, scopes.join(",")))?;
        }
    }
    Ok(())
}
