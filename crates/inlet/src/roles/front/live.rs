//! What an edge takes up while it runs: routes with their limits, firewall rules, usage plans and
//! error pages, with each reload of the settings and whenever their files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use inlet_edge::Edge;
use inlet_edge::limits::Plans;

use super::model;
use crate::config::Settings;
use crate::report::Hinted;
use crate::roles::stop::Stop;
use crate::roles::watch;
use crate::roles::watched::Watched;

/// An edge, and the files that it was told to look at. Clones are the same.
#[derive(Clone)]
pub(in crate::roles) struct Live {
    edge: Edge,
    files: Arc<Mutex<Files>>,
}

/// Selects the paths to watch.
type FilesBy = fn(&Files) -> Vec<PathBuf>;

/// Where what is taken up lies.
#[derive(Debug, Clone)]
struct Files {
    firewall: Option<PathBuf>,
    plans: Option<PathBuf>,
    pages: Option<PathBuf>,
}

impl Live {
    /// An edge that was made from these settings.
    pub(super) fn new(edge: Edge, settings: &Settings) -> Self {
        Self { edge, files: Arc::new(Mutex::new(Files::of(settings))) }
    }

    /// Takes up what it can of other settings: of each kind what is there now, or what was in
    /// force where that can't be used. From then on the files that these settings name are looked
    /// at.
    ///
    /// # Errors
    /// What can't be used, and why.
    pub(in crate::roles) fn take_up(&self, settings: &Settings) -> anyhow::Result<()> {
        let routes = self.edge.set_routes(model::routes(&settings.limits));
        *self.files() = Files::of(settings);
        let taken = [
            routes.map_err(|error| chain(&error)),
            self.take_up_firewall(),
            self.take_up_plans(),
            self.take_up_pages(),
        ];
        let reasons: Vec<String> = taken.into_iter().filter_map(Result::err).collect();
        anyhow::ensure!(reasons.is_empty(), "{}", reasons.join("; "));
        Ok(())
    }

    /// Takes up firewall rules, plans and error pages when their files change, until the stop.
    pub(super) fn follow(&self, watched: &Watched, stop: &Stop) {
        let follow = |name, files: FilesBy, take_up: fn(&Self) -> Result<(), String>| {
            let (live, stop) = (self.clone(), stop.clone());
            watched.restarted_task(name, move || {
                let (read, taken) = (live.clone(), live.clone());
                // Whatever is asked of the disk is asked without holding up a reload.
                let named = move || files(&read.files().clone());
                watch::changes(named, move || take_up(&taken), stop.clone())
            });
        };
        follow(
            "firewall",
            |files| files.firewall.iter().cloned().collect(),
            Self::take_up_firewall,
        );
        follow("plans", |files| files.plans.iter().cloned().collect(), Self::take_up_plans);
        follow(
            "pages",
            |files| files.pages.as_deref().map(entries).unwrap_or_default(),
            Self::take_up_pages,
        );
    }

    fn take_up_firewall(&self) -> Result<(), String> {
        let file = self.files().firewall.clone();
        self.edge.set_firewall(file.as_deref()).map_err(|error| chain(&error))
    }

    fn take_up_plans(&self) -> Result<(), String> {
        let file = self.files().plans.clone();
        let plans = plans(file.as_deref()).map_err(|error| format!("{error:#}"))?;
        self.edge.set_plans(plans);
        Ok(())
    }

    fn take_up_pages(&self) -> Result<(), String> {
        let folder = self.files().pages.clone();
        self.edge.set_pages(folder.as_deref()).map_err(|error| chain(&error))
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn of(settings: &Settings) -> Self {
        Self {
            firewall: settings.edge.firewall.clone(),
            plans: settings.edge.plans.clone(),
            pages: settings.pages.clone(),
        }
    }
}

/// The plans in a file; none without one.
pub(super) fn plans(file: Option<&Path>) -> anyhow::Result<Plans> {
    let Some(file) = file else { return Ok(Plans::default()) };
    let read = std::fs::read_to_string(file);
    let text = read.with_context(|| format!("could not read the plans in {}", file.display()))?;
    Plans::parse(&text).with_context(|| {
        Hinted::usage(format!("the plans in {} can't be used", file.display()), "see docs/EDGE.md")
    })
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// An error with those of its causes that it does not tell itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(&format!(": {said}"));
        }
        cause = error.source();
    }
    text
}
