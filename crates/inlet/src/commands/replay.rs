//! `inlet replay`: stored documents of a time range, read out again at a capped rate.
//!
//! The progress of a replay to a URL is noted twice a second, so that the same command, run again
//! after it broke off, goes on there. What was sent since the last note is sent again: each
//! document carries its id as `Idempotency-Key`.

mod pace;
mod sink;

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::pace::Pace;
use self::sink::Sink;
use super::documents::{Documents, Selection, page};
use crate::cli::ReplayArgs;
use crate::client::Client;
use crate::config::Settings;
use crate::report;
use crate::state::Note;

/// How many documents one request asks for.
const PAGE: usize = 500;
/// The interval at which progress is noted.
const NOTE_EVERY: Duration = Duration::from_millis(500);

/// The progress of a replay.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Place {
    /// The documents to replay; `--since` means the same moment when it is gone on with.
    selection: Selection,
    /// The beginning of the page that it is in.
    cursor: Option<String>,
    /// The last document of that page that was taken.
    last: Option<String>,
    /// The number of documents taken in all.
    replayed: u64,
}

/// Prints each document, or posts it.
pub(crate) fn run(settings: &Settings, args: &ReplayArgs) -> anyhow::Result<()> {
    let mut sink = Sink::new(args)?;
    let client = Client::new(&args.remote, &settings.data)?;
    let note = sink.shown().and_then(|shown| {
        let range = &args.range;
        let typed = (&range.stream, &range.from, &range.to, &range.since);
        Note::of("replays", &format!("{}\0{shown}\0{typed:?}", client.address()))
    });
    let place = match note.as_ref().filter(|_| !args.restart).and_then(Note::read::<Place>) {
        Some(place) => {
            report::say(format_args!(
                "going on where it broke off, after {} documents; --restart begins anew",
                place.replayed
            ));
            place
        }
        None => {
            let selection = Selection::of(&args.range, &client, settings)?;
            Place { selection, ..Place::default() }
        }
    };
    let mut replay = Replay { place, note, noted: Instant::now(), pace: Pace::new(args.rate) };
    let replayed = replay.all(&client, &mut sink);
    replay.end(replayed)?;
    let replayed = replay.place.replayed;
    match (args.remote.json.json, sink.shown()) {
        (true, Some(_)) => report::data(json!({"replayed": replayed})),
        _ => {
            report::say(format_args!("{replayed} documents replayed"));
            Ok(())
        }
    }
}

struct Replay {
    place: Place,
    note: Option<Note>,
    noted: Instant,
    pace: Pace,
}

impl Replay {
    fn all(&mut self, client: &Client, sink: &mut Sink) -> anyhow::Result<()> {
        let bar = ProgressBar::no_length().with_message("replayed");
        loop {
            let Documents { documents, next, more } =
                page(client, &self.place.selection, PAGE, self.place.cursor.as_deref())?;
            for document in self.left(&documents) {
                sink.take(document, &mut self.pace)?;
                self.place.last = document["id"].as_str().map(str::to_owned);
                self.place.replayed += 1;
                bar.inc(1);
                if self.noted.elapsed() >= NOTE_EVERY {
                    self.write_note();
                }
            }
            if !more {
                break;
            }
            (self.place.cursor, self.place.last) = (next, None);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The documents of a page behind the last that was taken; all, where that is not among them.
    fn left<'a>(&self, documents: &'a [Value]) -> &'a [Value] {
        let last = self.place.last.as_deref();
        let taken = documents.iter().position(|it| last.is_some() && it["id"].as_str() == last);
        &documents[taken.map_or(0, |taken| taken + 1)..]
    }

    fn write_note(&mut self) {
        if let Some(note) = &self.note {
            note.write(&self.place);
        }
        self.noted = Instant::now();
    }

    /// Notes how far it came where it broke off, and forgets it where it is through.
    fn end(&mut self, replayed: anyhow::Result<()>) -> anyhow::Result<()> {
        match &replayed {
            Ok(()) => self.note.iter().for_each(Note::remove),
            Err(_) => self.write_note(),
        }
        replayed
    }
}
