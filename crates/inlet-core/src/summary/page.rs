//! The page of a summary: one file of HTML with its style and its charts in it, for any browser
//! and for paper, with no script and nothing to fetch.

use std::fmt::{Result, Write};

use super::escape::Escaped;
use super::number::{bytes, change, change_in_words, counted, dates, exact, human};
use super::{Change, Summary, chart, section};
use crate::document::Timestamp;

/// The style of Inlet's pages, as it stands in the page's one `<style>` element, so that a
/// content security policy can name its hash.
pub const STYLE: &str = include_str!("style.css");

/// How many streams the chart of growth compares.
const COMPARED_MAX: usize = 12;

/// The page of `summary`. All text that came from outside is escaped.
pub fn page(summary: &Summary) -> String {
    let mut html = String::with_capacity(32 << 10);
    write(&mut html, summary).expect("writing to a String can't fail");
    html
}

fn write(html: &mut String, summary: &Summary) -> Result {
    let days = dates(summary.week.first_day(), summary.week.last_day());
    let week = summary.week.to_string();
    let (year, number) = week.split_once("-W").unwrap_or((&week, ""));
    let number = number.trim_start_matches('0');
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"robots\" content=\"noindex\">\n\
         <title>Week {number}, {year} · Inlet</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <div class=\"page\">\n<header>\n<p class=\"brand\">Inlet</p>\n\
         <h1>Week {number}, {year}</h1>\n<p class=\"quiet\">{days} · {}</p>\n",
        Escaped(&summary.zone)
    )?;
    lead(html, summary)?;
    writeln!(html, "</header>\n<main>")?;
    if summary.total.documents > 0 {
        total(html, summary)?;
    }
    if !summary.streams.is_empty() {
        section::streams(html, &summary.streams)?;
        comparison(html, summary)?;
    }
    section::dead_letters(html, &summary.streams)?;
    if summary.total.documents > 0 {
        section::each_stream(html, &summary.streams)?;
    }
    write!(
        html,
        "</main>\n<footer>Made {}, revision {}. Days are those of {}. \
         The same figures, and more of them: <a href=\"{week}.json\">{week}.json</a>.\
         </footer>\n</div>\n</body>\n</html>\n",
        moment(summary.made),
        summary.revision,
        Escaped(&summary.zone),
    )
}

/// What the week was, in a sentence, and the four figures to know.
fn lead(html: &mut String, summary: &Summary) -> Result {
    let total = &summary.total;
    let growth = &total.growth;
    if !summary.complete {
        writeln!(
            html,
            "<p class=\"note\">This week was not over when the summary was made. \
             It counts what was stored until {}.</p>",
            moment(summary.made)
        )?;
    }
    changed(html, summary)?;
    zones(html, summary)?;
    if total.documents == 0 {
        write!(html, "<p class=\"lead\">Nothing was stored this week.")?;
        if growth.documents.before > 0 {
            let before = counted(growth.documents.before, "document", "documents");
            write!(html, " The week before had {before}.")?;
        }
        return writeln!(html, "</p>");
    }
    let streams = active(summary);
    writeln!(
        html,
        "<p class=\"lead\">{} in {}: {}.</p>",
        counted(total.documents, "document", "documents"),
        counted(streams, "stream", "streams"),
        Escaped(&change_in_words(&growth.documents)),
    )?;
    writeln!(html, "<dl class=\"figures\">")?;
    let was = |before: String, of: &Change| match of.percent {
        None => "the week before had none".to_owned(),
        Some(_) => format!("{}, after {before}", change(of)),
    };
    figure(
        html,
        "Documents",
        &human(total.documents),
        &was(human(growth.documents.before), &growth.documents),
    )?;
    figure(html, "Size", &bytes(total.bytes), &was(bytes(growth.bytes.before), &growth.bytes))?;
    let mean = total.bytes / total.documents.max(1);
    figure(html, "Mean document", &bytes(mean), "as it was sent")?;
    let dead = total.dead_letters.iter().map(|dead| dead.documents).sum();
    let causes = match total.dead_letters.as_slice() {
        [] => "every document was stored".to_owned(),
        causes => counted(causes.len() as u64, "cause", "causes"),
    };
    figure(html, "Dead letters", &human(dead), &causes)?;
    writeln!(html, "</dl>")
}

/// What the last revision changed, where there was more than one.
fn changed(html: &mut String, summary: &Summary) -> Result {
    let Some(change) = summary.changes.last() else { return Ok(()) };
    writeln!(
        html,
        "<p class=\"note\">Revision {}, made {}: {:+} documents and {:+} dead letters, counted \
         after the revision before.</p>",
        change.revision,
        moment(change.made),
        change.documents,
        change.dead_letters,
    )
}

/// The zones under whose days documents were counted, where they are not all the summary's own.
fn zones(html: &mut String, summary: &Summary) -> Result {
    if summary.zones.is_empty() {
        return Ok(());
    }
    write!(
        html,
        "<p class=\"note\">The time zone was changed. Documents were counted under the days of"
    )?;
    for (index, zone) in summary.zones.iter().enumerate() {
        write!(
            html,
            "{} {} ({}, {})",
            if index == 0 { "" } else { ";" },
            Escaped(&zone.zone),
            dates(zone.from, zone.to),
            counted(zone.documents, "document", "documents"),
        )?;
    }
    writeln!(html, ".</p>")
}

fn figure(html: &mut String, name: &str, value: &str, note: &str) -> Result {
    writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd><dd>{}</dd></div>", Escaped(note))
}

/// The week's days, all streams together.
fn total(html: &mut String, summary: &Summary) -> Result {
    let days = &summary.total.days;
    writeln!(
        html,
        "<section>\n<h2>Day by day</h2>\n<figure>\n<figcaption>Documents stored, all streams</figcaption>\n<div class=\"scroll\">"
    )?;
    chart::days(html, "total", "Documents stored on each day of the week", days, 220.0)?;
    writeln!(html, "</div>")?;
    section::days_table(html, days)?;
    writeln!(html, "</figure>\n</section>")
}

/// This week and the week before, stream by stream.
fn comparison(html: &mut String, summary: &Summary) -> Result {
    if summary.total.growth.documents.before == 0 {
        return writeln!(
            html,
            "<section>\n<h2>Growth</h2>\n<p class=\"quiet\">Nothing was stored in the week \
             before, so there is nothing to compare with.</p>\n</section>"
        );
    }
    let compared = &summary.streams[..summary.streams.len().min(COMPARED_MAX)];
    write!(
        html,
        "<section>\n<h2>Growth</h2>\n<figure>\n<figcaption><span class=\"key\"></span>this week\
         <span class=\"key before\"></span>the week before"
    )?;
    if compared.len() < summary.streams.len() {
        write!(html, " · the {} largest streams", compared.len())?;
    }
    writeln!(html, "</figcaption>\n<div class=\"scroll\">")?;
    chart::comparison(html, "growth", compared)?;
    writeln!(
        html,
        "</div>\n<details><summary>The figures</summary>\n<div class=\"scroll\"><table>\n\
         <thead><tr><th scope=\"col\">Stream</th><th scope=\"col\" class=\"n\">This week</th>\
         <th scope=\"col\" class=\"n\">The week before</th>\
         <th scope=\"col\" class=\"n\">Growth</th><th scope=\"col\" class=\"n\">Growth in size\
         </th></tr></thead>\n<tbody>"
    )?;
    for stream in compared {
        let growth = &stream.figures.growth;
        writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            Escaped(&stream.stream),
            exact(stream.figures.documents),
            exact(growth.documents.before),
            Escaped(&change(&growth.documents)),
            Escaped(&change(&growth.bytes)),
        )?;
    }
    writeln!(html, "</tbody></table></div></details>\n</figure>\n</section>")
}

/// How many streams had documents this week.
fn active(summary: &Summary) -> u64 {
    summary.streams.iter().filter(|stream| stream.figures.documents > 0).count() as u64
}

/// A moment to the second, in UTC.
fn moment(moment: Timestamp) -> String {
    let text = moment.to_string();
    let seconds = text.get(..19).unwrap_or(&text);
    format!("<time datetime=\"{text}\">{} UTC</time>", seconds.replace('T', " "))
}
