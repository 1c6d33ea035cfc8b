//! Shows how a stack changes: a line and a stopwatch a resource. On a terminal what is under way
//! is shown below what is done; elsewhere each end is one plain line.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use inlet_deploy::stacks::{Event, EventState};
use inlet_deploy::templates::Resource;

use crate::report;

/// How often a stopwatch on a terminal moves.
const TICK: Duration = Duration::from_millis(100);

/// What is shown.
pub(super) struct Progress {
    sentences: BTreeMap<String, String>,
    /// When each resource was begun, in milliseconds since 1970.
    begun_ms: BTreeMap<String, i64>,
    terminal: Option<Terminal>,
}

struct Terminal {
    lines: MultiProgress,
    open: BTreeMap<String, ProgressBar>,
}

impl Progress {
    /// Shows the resources by their sentences.
    pub(super) fn new(resources: &[Resource]) -> Self {
        let sentences =
            resources.iter().map(|one| (one.path.clone(), one.sentence.clone())).collect();
        let terminal = std::io::stderr()
            .is_terminal()
            .then(|| Terminal { lines: MultiProgress::new(), open: BTreeMap::new() });
        Self { sentences, begun_ms: BTreeMap::new(), terminal }
    }

    /// Shows an event.
    pub(super) fn show(&mut self, event: &Event) {
        let key = event.path.clone();
        match event.state {
            EventState::Begun if event.moment_ms == 0 => {
                self.line(&format!("{}: {}", event.path, event.reason.as_deref().unwrap_or("")));
            }
            EventState::Begun => {
                self.begun_ms.entry(key).or_insert(event.moment_ms);
                self.begin(event);
            }
            EventState::Done | EventState::Failed | EventState::Skipped => {
                let begun_ms = self.begun_ms.remove(&key).unwrap_or(event.moment_ms);
                if let Some(terminal) = &mut self.terminal
                    && let Some(line) = terminal.open.remove(&key)
                {
                    line.finish_and_clear();
                }
                self.line(&ended(event, event.moment_ms - begun_ms, &self.words(event)));
            }
        }
    }

    /// What a resource is, in words.
    fn words(&self, event: &Event) -> String {
        match self.sentences.get(&event.path) {
            Some(sentence) if !sentence.is_empty() => {
                format!("{} ({}): {sentence}", event.path, event.kind)
            }
            _ if event.path.is_empty() => "the stack".to_owned(),
            _ => format!("{} ({})", event.path, event.kind),
        }
    }

    fn begin(&mut self, event: &Event) {
        let words = self.words(event);
        let Some(terminal) = &mut self.terminal else { return };
        if terminal.open.contains_key(&event.path) {
            return;
        }
        let style = ProgressStyle::with_template("{elapsed:>6} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let line = terminal.lines.add(ProgressBar::new_spinner().with_style(style));
        line.set_message(words);
        line.enable_steady_tick(TICK);
        terminal.open.insert(event.path.clone(), line);
    }

    fn line(&self, text: &str) {
        match &self.terminal {
            // Where the terminal went away, so did who watched.
            Some(terminal) => terminal.lines.println(text).unwrap_or_default(),
            None => report::say(text),
        }
    }
}

fn ended(event: &Event, took_ms: i64, words: &str) -> String {
    let seconds = took_ms.max(0) / 1_000;
    let tenths = took_ms.max(0) % 1_000 / 100;
    let watch = match seconds {
        0..60 => format!("{seconds}.{tenths}s"),
        _ => format!("{}m{:02}s", seconds / 60, seconds % 60),
    };
    let status = event.status.to_ascii_lowercase().replace('_', " ");
    let reason = match (event.state, &event.reason) {
        (EventState::Failed, Some(reason)) => format!(": {reason}"),
        _ => String::new(),
    };
    format!("{watch:>7} {status:<16} {words}{reason}")
}
