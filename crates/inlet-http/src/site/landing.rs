//! `/`: which instance this is, and figures from the store.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{HOST, HeaderValue, VARY};
use inlet_core::dead_letter::DeadLetterFilter;
use inlet_core::document::Timestamp;
use inlet_core::failure::Failure;
use inlet_core::ports::{Depth, Store};
use inlet_server::fill;
use serde_json::{Value, json};

use super::health::depth;
use crate::accept_header::prefers_html;
use crate::answer::{Handled, json as json_answer, page};
use crate::app::App;
use crate::call::Call;
use crate::escape::html;
use crate::pages::framed;
use crate::recent::{FIGURE_WAIT_MAX, Recent};

/// How old figures may be. The page asks for no token, so it must not be a way to keep the store
/// busy.
const FIGURES_AGE_MAX: Duration = Duration::from_secs(2);
/// Up to how many dead letters are counted.
const DEAD_LETTERS_MAX: usize = 100;

const PAGE: &str = include_str!("../pages/landing.html");

/// The figures that the engines gave a moment ago.
#[derive(Debug, Default)]
pub(crate) struct RecentFigures {
    store: Recent<Option<StoreFigures>>,
    pub(super) depth: Recent<Option<Depth>>,
    /// The outcome of the store's check: a word for the cause where it failed.
    pub(super) check: Recent<Result<(), &'static str>>,
}

/// What the landing page tells of the store and the queue; `None` where one did not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Figures {
    store: Option<StoreFigures>,
    depth: Option<Depth>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StoreFigures {
    documents: u64,
    bytes: u64,
    streams: usize,
    /// How many there are, up to [`DEAD_LETTERS_MAX`]; and whether there are more.
    dead_letters: (usize, bool),
}

/// Shows them, as a page or as JSON.
pub(crate) async fn show(call: &Call<'_>) -> Handled {
    call.query()?;
    let figures = recent(call.app).await;
    let mut answer = if prefers_html(&call.head.headers) {
        page(StatusCode::OK, as_page(call.app, &figures, &origin(call)))
    } else {
        json_answer(StatusCode::OK, &as_json(call.app, &figures))
    };
    answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(answer)
}

async fn recent(app: &App) -> Figures {
    let recent = &app.state.recent.store;
    let store = Arc::clone(&app.store);
    let looked_up = async move { look_up(&*store).await.ok() };
    let looked_up = recent.get(FIGURES_AGE_MAX, FIGURE_WAIT_MAX, looked_up).await;
    // While the store hangs, what it told last is better than nothing.
    let store = looked_up.or_else(|| recent.last()).flatten();
    Figures { store, depth: depth(app, FIGURES_AGE_MAX).await }
}

async fn look_up(store: &dyn Store) -> Result<StoreFigures, Failure> {
    let streams = store.streams().await?;
    let filter = DeadLetterFilter::default();
    let dead = store.dead_letters(&filter, DEAD_LETTERS_MAX, None).await?;
    Ok(StoreFigures {
        documents: streams.iter().map(|stream| stream.documents).sum(),
        bytes: streams.iter().map(|stream| stream.bytes).sum(),
        streams: streams.len(),
        dead_letters: (dead.items.len(), dead.more),
    })
}

fn as_json(app: &App, figures: &Figures) -> Value {
    let instance = &app.instance;
    json!({
        "instance": instance.id(),
        "zone": instance.zone(),
        "version": instance.version(),
        "started": instance.started().to_string(),
        "uptime_s": instance.uptime().as_secs(),
        "accepted": app.metrics.accepted_documents(),
        "store": figures.store.map(|store| json!({
            "documents": store.documents,
            "bytes": store.bytes,
            "streams": store.streams,
            "dead_letters": store.dead_letters.0,
            "dead_letters_more": store.dead_letters.1,
        })),
        "queue": figures.depth.map(|depth| json!({
            "bytes": depth.bytes,
            "bytes_max": depth.bytes_max,
            "documents": depth.messages,
        })),
        "warnings": warnings(app),
    })
}

/// The faults an operator should mend though everything works.
fn warnings(app: &App) -> Vec<&'static str> {
    let on_store_disk = "The bucket is on the same disk as the store: a backup there does not \
        survive the loss of that disk. Name a directory on another disk, or s3://BUCKET.";
    app.metrics.is_bucket_on_store_disk().then_some(on_store_disk).into_iter().collect()
}

fn as_page(app: &App, figures: &Figures, origin: &str) -> String {
    let instance = &app.instance;
    let store = figures.store;
    let number = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), grouped);
    let dead = store.map_or_else(
        || "–".to_owned(),
        |store| format!("{}{}", store.dead_letters.0, if store.dead_letters.1 { "+" } else { "" }),
    );
    let queue = figures.depth.map_or_else(|| "–".to_owned(), |depth| bytes(depth.bytes));
    let queue_of = match figures.depth.and_then(|depth| depth.bytes_max) {
        Some(limit) => format!("of {} that may wait", bytes(limit)),
        None => "waiting to be stored".to_owned(),
    };
    let streams = store.map_or(0, |store| store.streams);
    let dead_note = match store.map(|store| store.dead_letters.0) {
        None => "",
        Some(0) => "all that came was stored",
        Some(_) => "kept whole, with their cause",
    };
    let values = [
        ("instance", html(instance.id())),
        ("zone", html(instance.zone())),
        ("version", html(instance.version())),
        ("started", minute(instance.started())),
        ("uptime", duration(instance.uptime())),
        ("accepted", grouped(app.metrics.accepted_documents())),
        ("documents", number(store.map(|store| store.documents))),
        ("bytes", store.map_or_else(|| "–".to_owned(), |store| bytes(store.bytes))),
        ("streams", format!("{streams} {}", if streams == 1 { "stream" } else { "streams" })),
        ("dead_letters", dead),
        ("dead_letters_note", dead_note.to_owned()),
        ("queue", queue),
        ("queue_of", queue_of),
        ("origin", html(origin)),
        ("note", if store.is_some() { String::new() } else { STORE_AWAY.to_owned() }),
    ];
    let values: Vec<(&str, &str)> = values.iter().map(|(name, text)| (*name, &**text)).collect();
    framed("Inlet", &fill(PAGE, &values))
}

/// Where the client found us, for the line that it can paste.
fn origin(call: &Call<'_>) -> String {
    let host = call.head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| call.head.uri.authority().map(|host| host.as_str()));
    // A proxy that ends TLS says so. Who says so without one only misleads itself.
    let forwarded = call.head.headers.get("x-forwarded-proto");
    let is_secure = call.is_secure || forwarded.is_some_and(|proto| proto.as_bytes() == b"https");
    let scheme = if is_secure { "https" } else { "http" };
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

/// A moment to the minute: `2026-11-21 02:03Z`.
fn minute(moment: Timestamp) -> String {
    let text = moment.to_string();
    text.get(..16).map_or_else(|| text.clone(), |start| format!("{}Z", start.replace('T', " ")))
}

const STORE_AWAY: &str = "<p class=\"note\">The store does not answer just now. Documents are \
    still accepted, as long as the queue has room, and stored once it is back.</p>";

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A size that a person can read: `640 bytes`, `3.4 MiB`.
fn bytes(bytes: u64) -> String {
    let mut unit = "KiB";
    // In tenths, so that no number with a fraction is needed.
    let mut tenths = bytes.saturating_mul(10) / 1024;
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    for next in ["MiB", "GiB", "TiB"] {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(999), "999");
        assert_eq!(bytes(640), "640 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(64 << 20), "64.0 MiB");
        assert_eq!(duration(Duration::from_secs(93_600)), "1 d 2 h");
    }
}
