//! Which part a function plays, and how it answers an event.

use anyhow::bail;
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

    /// Answers an event. An error is one of ours: the event is to be delivered again.
    pub(crate) async fn answer(&self, event: Value) -> Result<Value, Error> {
        let settings = &self.settings;
        match &self.kind {
            Kind::Intake(api) => {
                let opened = api.get_or_try_init(|| engines::intake(settings)).await;
                Ok(event::answer(opened, event).await?)
            }
            Kind::Read(api) => {
                let opened = api.get_or_try_init(|| engines::read(settings)).await;
                Ok(event::answer(opened, event).await?)
            }
            Kind::Admin(api) => {
                let opened = api.get_or_try_init(|| engines::admin(settings)).await;
                Ok(event::answer(opened, event).await?)
            }
            Kind::Persist(worker) => {
                let worker = worker.get_or_try_init(|| persist::open(settings)).await?;
                Ok(worker.store(event).await?)
            }
            Kind::Summary(writer) => {
                let writer = writer.get_or_try_init(|| summary::open(settings)).await?;
                Ok(writer.write_due().await?)
            }
            Kind::Migrate => Ok(migrate::run(settings).await?),
        }
    }
}
