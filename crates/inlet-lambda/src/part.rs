//! Which part a function plays, and how it answers an event.

use anyhow::bail;
use inlet_core::failure::Failure;
use lambda_runtime::Error;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::engines::{self, Api};
use crate::persist::Worker;
use crate::settings::Settings;
use crate::summary::Writer;
use crate::{event, migrate, persist, summary};

/// A part, whose engines are opened by its first event.
pub(crate) struct Part {
    settings: Settings,
    kind: Kind,
}

enum Kind {
    Intake(OnceCell<Api>),
    Read(OnceCell<Api>),
    Admin(OnceCell<Api>),
    Persist(OnceCell<Worker>),
    Summary(OnceCell<Writer>),
    Migrate,
}

impl Part {
    /// The part that the settings name. Nothing is opened.
    pub(crate) fn new(settings: Settings) -> anyhow::Result<Self> {
        // A token that nobody could send, or that anybody could guess, ends the function at its
        // start and not at the first request.
        engines::outside()?;
        let kind = match settings.part.as_str() {
            "intake" => Kind::Intake(OnceCell::new()),
            "read" => Kind::Read(OnceCell::new()),
            "persist" => Kind::Persist(OnceCell::new()),
            "admin" => Kind::Admin(OnceCell::new()),
            "summary" => Kind::Summary(OnceCell::new()),
            "migrate" => Kind::Migrate,
            other => bail!(
                "the handler {other:?} is none; set it to intake, read, admin, persist, summary \
                 or migrate"
            ),
        };
        Ok(Self { settings, kind })
    }

    /// Answers an event. An error is one of ours, said with its causes and its hint: the event is
    /// to be delivered again.
    pub(crate) async fn answer(&self, event: Value) -> Result<Value, Error> {
        self.answered(event).await.map_err(|error| told(&error).into())
    }

    async fn answered(&self, event: Value) -> anyhow::Result<Value> {
        let settings = &self.settings;
        match &self.kind {
            Kind::Intake(api) => {
                let opened = api.get_or_try_init(|| engines::intake(settings)).await;
                event::answer(opened, event).await
            }
            Kind::Read(api) => {
                let opened = api.get_or_try_init(|| engines::read(settings)).await;
                event::answer(opened, event).await
            }
            Kind::Admin(api) => {
                let opened = api.get_or_try_init(|| engines::admin(settings)).await;
                event::answer(opened, event).await
            }
            Kind::Persist(worker) => {
                let worker = worker.get_or_try_init(|| persist::open(settings)).await?;
                worker.store(event).await
            }
            Kind::Summary(writer) => {
                let writer = writer.get_or_try_init(|| summary::open(settings)).await?;
                writer.write_due().await
            }
            Kind::Migrate => migrate::run(settings).await,
        }
    }
}

/// An error on one line.
fn told(error: &anyhow::Error) -> String {
    let hint = error.chain().find_map(|cause| cause.downcast_ref::<Failure>()?.hint_text());
    match hint {
        Some(hint) => format!("{error:#}; hint: {hint}"),
        None => format!("{error:#}"),
    }
}
