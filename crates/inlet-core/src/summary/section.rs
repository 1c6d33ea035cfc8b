//! The sections of the page that list: streams, dead letters, and each stream's days and fields.

use std::fmt::{Result, Write};

use super::escape::Escaped;
use super::number::{bytes, change, change_in_words, counted, exact, share};
use super::{DayFigures, FieldSummary, StreamSummary, chart};

/// How many streams the table lists. The rest is in the JSON.
const LISTED_MAX: usize = 200;
/// How many streams have a section of their own.
const SECTIONS_MAX: usize = 60;
/// How many of these are open from the start.
const OPEN_MAX: usize = 5;
/// How many fields of a stream are shown before the rest is folded away.
const FIELDS_SHOWN_MAX: usize = 12;

/// The table of all streams.
pub(super) fn streams(html: &mut String, streams: &[StreamSummary]) -> Result {
    writeln!(
        html,
        "<section>\n<h2>Streams</h2>\n<div class=\"scroll\"><table>\n<thead><tr>\
         <th scope=\"col\">Stream</th><th scope=\"col\">Mon to Sun</th>\
         <th scope=\"col\" class=\"n\">Documents</th>\
         <th scope=\"col\" class=\"n\" colspan=\"2\">Share</th>\
         <th scope=\"col\" class=\"n\">Size</th><th scope=\"col\" class=\"n\">Growth</th>\
         <th scope=\"col\" class=\"n\">Dead</th></tr></thead>\n<tbody>"
    )?;
    for stream in streams.iter().take(LISTED_MAX) {
        let figures = &stream.figures;
        let dead: u64 = figures.dead_letters.iter().map(|dead| dead.documents).sum();
        write!(html, "<tr><th scope=\"row\">{}</th><td class=\"spark\">", Escaped(&stream.stream))?;
        chart::spark(html, &figures.days)?;
        write!(html, "</td><td class=\"n\">{}</td>", exact(figures.documents))?;
        chart::share(html, stream.share)?;
        writeln!(
            html,
            "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            Escaped(&share(stream.share, figures.documents)),
            bytes(figures.bytes),
            Escaped(&change(&figures.growth.documents)),
            if dead == 0 { "–".to_owned() } else { exact(dead) },
        )?;
    }
    writeln!(html, "</tbody></table></div>")?;
    left_out(html, &streams[streams.len().min(LISTED_MAX)..], "are not listed here")?;
    writeln!(html, "</section>")
}

/// The dead letters of all streams, by cause.
pub(super) fn dead_letters(html: &mut String, streams: &[StreamSummary]) -> Result {
    writeln!(html, "<section>\n<h2>Dead letters</h2>")?;
    let dead: Vec<_> = streams
        .iter()
        .flat_map(|stream| stream.figures.dead_letters.iter().map(move |dead| (stream, dead)))
        .collect();
    if dead.is_empty() {
        return writeln!(html, "<p class=\"quiet\">No document died this week.</p>\n</section>");
    }
    writeln!(
        html,
        "<p class=\"quiet\">Documents that could not be stored, kept whole. \
         <code>inlet dead-letters</code> lists them, <code>inlet redrive</code> sends them to the \
         queue again.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Stream</th>\
         <th scope=\"col\">Cause</th><th scope=\"col\">What it means</th>\
         <th scope=\"col\" class=\"n\">Documents</th><th scope=\"col\" class=\"n\">Size</th></tr>\
         </thead>\n<tbody>"
    )?;
    for (stream, dead) in dead.iter().take(LISTED_MAX) {
        writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td><code>{}</code></td><td class=\"said\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            Escaped(&stream.stream),
            Escaped(&dead.cause),
            meaning(&dead.cause),
            exact(dead.documents),
            bytes(dead.bytes),
        )?;
    }
    writeln!(html, "</tbody></table></div>")?;
    if dead.len() > LISTED_MAX {
        writeln!(
            html,
            "<p class=\"small quiet\">{} more lines are in the JSON.</p>",
            exact((dead.len() - LISTED_MAX) as u64)
        )?;
    }
    writeln!(html, "</section>")
}

/// A section a stream: its days and its fields.
pub(super) fn each_stream(html: &mut String, streams: &[StreamSummary]) -> Result {
    writeln!(html, "<section>\n<h2>Stream by stream</h2>")?;
    for (index, stream) in streams.iter().take(SECTIONS_MAX).enumerate() {
        let name = Escaped(&stream.stream);
        if index < OPEN_MAX {
            writeln!(html, "<section class=\"stream\">\n<h3>{name}</h3>")?;
        } else {
            let documents = counted(stream.figures.documents, "document", "documents");
            writeln!(
                html,
                "<details class=\"stream\"><summary><h3>{name}</h3>\
                 <span class=\"quiet\">{documents}</span></summary>"
            )?;
        }
        one_stream(html, index, stream)?;
        writeln!(html, "{}", if index < OPEN_MAX { "</section>" } else { "</details>" })?;
    }
    left_out(html, &streams[streams.len().min(SECTIONS_MAX)..], "have no section of their own")?;
    writeln!(html, "</section>")
}

fn one_stream(html: &mut String, index: usize, stream: &StreamSummary) -> Result {
    let figures = &stream.figures;
    if figures.documents == 0 {
        return writeln!(
            html,
            "<p class=\"quiet\">Nothing was stored this week; {}.</p>",
            Escaped(&change_in_words(&figures.growth.documents))
        );
    }
    writeln!(
        html,
        "<p class=\"quiet\">{}, {}, {} of all: {}.</p>\n<figure>\n<div class=\"scroll\">",
        counted(figures.documents, "document", "documents"),
        bytes(figures.bytes),
        Escaped(&share(stream.share, figures.documents)),
        Escaped(&change_in_words(&figures.growth.documents)),
    )?;
    let title = format!("Documents stored in {} on each day of the week", stream.stream);
    chart::days(html, &format!("days-{index}"), &title, &figures.days, 140.0)?;
    writeln!(html, "</div>")?;
    days_table(html, &figures.days)?;
    writeln!(html, "</figure>")?;
    fields(html, stream)
}

/// The figures behind a chart of days, folded away.
pub(super) fn days_table(html: &mut String, days: &[DayFigures]) -> Result {
    write!(
        html,
        "<details><summary>The figures</summary>\n<div class=\"scroll\"><table>\n<thead><tr>\
         <th scope=\"col\">Day</th><th scope=\"col\" class=\"n\">Documents</th>\
         <th scope=\"col\" class=\"n\">Size</th></tr></thead>\n<tbody>"
    )?;
    for day in days {
        writeln!(
            html,
            "<tr><th scope=\"row\">{} {}</th><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            day.day.weekday_short(),
            day.day,
            exact(day.documents),
            bytes(day.bytes),
        )?;
    }
    writeln!(html, "</tbody></table></div></details>")
}

fn fields(html: &mut String, stream: &StreamSummary) -> Result {
    writeln!(html, "<h4>Fields</h4>")?;
    if stream.fields.is_empty() {
        return writeln!(html, "<p class=\"quiet small\">No fields were counted.</p>");
    }
    let (shown, folded) = stream.fields.split_at(stream.fields.len().min(FIELDS_SHOWN_MAX));
    fields_table(html, shown)?;
    if !folded.is_empty() {
        let more = counted(folded.len() as u64, "more field", "more fields");
        writeln!(html, "<details><summary>{more}</summary>")?;
        fields_table(html, folded)?;
        writeln!(html, "</details>")?;
    }
    if stream.fields_left_out > 0 {
        writeln!(
            html,
            "<p class=\"quiet small\">{} that were rarer are not listed.</p>",
            counted(stream.fields_left_out, "field", "fields")
        )?;
    }
    Ok(())
}

fn fields_table(html: &mut String, fields: &[FieldSummary]) -> Result {
    writeln!(
        html,
        "<div class=\"scroll\"><table class=\"fields\">\n<thead><tr><th scope=\"col\">Field</th>\
         <th scope=\"col\">Type</th><th scope=\"col\" class=\"n\">Documents</th>\
         <th scope=\"col\" class=\"n\" colspan=\"2\">Share</th></tr></thead>\n<tbody>"
    )?;
    for field in fields {
        for (index, of) in field.types.iter().enumerate() {
            write!(html, "<tr>")?;
            if index == 0 {
                let rows = field.types.len();
                let path = Escaped(&field.path);
                write!(html, "<th scope=\"row\" rowspan=\"{rows}\"><code>{path}</code></th>")?;
            }
            write!(
                html,
                "<td>{}</td><td class=\"n\">{}</td>",
                Escaped(&of.kind),
                exact(of.documents)
            )?;
            chart::share(html, of.share)?;
            writeln!(
                html,
                "<td class=\"n\">{}</td></tr>",
                Escaped(&share(of.share, of.documents))
            )?;
        }
    }
    writeln!(html, "</tbody></table></div>")
}

/// Names how much is not shown, where anything is not.
fn left_out(html: &mut String, streams: &[StreamSummary], what: &str) -> Result {
    if streams.is_empty() {
        return Ok(());
    }
    let documents =
        streams.iter().fold(0u64, |sum, stream| sum.saturating_add(stream.figures.documents));
    writeln!(
        html,
        "<p class=\"small quiet\">{} with {} {what}; the JSON has them.</p>",
        counted(streams.len() as u64, "more stream", "more streams"),
        counted(documents, "document", "documents"),
    )
}

fn meaning(cause: &str) -> &'static str {
    match cause {
        "key_conflict" => "its idempotency key was used before, with another body",
        "refused" => "the store refuses it for good",
        "undecodable" => "its bytes in the queue are no document",
        _ => "",
    }
}
