//! Charts as SVG: drawn by the server, readable without colour, each with a title and a
//! description for those who do not see it.

use std::fmt::{Result, Write};

use super::escape::{Escaped, cut};
use super::number::{change, day_of_month, exact, short};
use super::{DayFigures, StreamSummary};

/// The size of a drawing, in its own units.
const WIDTH: f64 = 720.0;
/// The height of a row of the comparison.
const ROW: f64 = 38.0;
/// Where the bars of the comparison begin, and how long the longest is.
const BARS_AT: f64 = 210.0;
const BARS: f64 = 380.0;
/// The room for a stream's name; what is longer is cut, and wide letters are clipped.
const NAMES: f64 = 200.0;
const NAME_CHARS_MAX: usize = 26;

/// Seven columns, one a day, each with its figure above it. `id` is unique on the page.
pub(super) fn days(
    html: &mut String,
    id: &str,
    title: &str,
    days: &[DayFigures],
    height: f64,
) -> Result {
    let most = days.iter().map(|day| day.documents).max().unwrap_or(0);
    let (top, bottom) = (24.0, height - 24.0);
    let column = WIDTH / 7.0;
    open(html, id, title, height)?;
    write!(html, "<desc id=\"{id}-d\">Documents a day: ")?;
    for (index, day) in days.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(html, "{comma}{} {}", day.day.weekday_short(), exact(day.documents))?;
    }
    writeln!(html, ".</desc>")?;
    for (day, index) in days.iter().zip(0u8..) {
        let middle = column * (f64::from(index) + 0.5);
        let tall = part(day.documents, most) * (bottom - top);
        let y = bottom - tall;
        if day.documents > 0 {
            let (x, wide) = (middle - 29.0, 58.0);
            writeln!(
                html,
                "<rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide}\" \
                 height=\"{tall:.1}\" rx=\"2\"/>"
            )?;
        }
        let quiet = if day.documents == 0 { " class=\"quiet\"" } else { "" };
        writeln!(
            html,
            "<text{quiet} x=\"{middle:.1}\" y=\"{:.1}\">{}</text>\
             <text class=\"quiet\" x=\"{middle:.1}\" y=\"{:.1}\">{} {}</text>",
            y - 8.0,
            short(day.documents),
            height - 6.0,
            day.day.weekday_short(),
            day_of_month(day.day),
        )?;
    }
    writeln!(
        html,
        "<line class=\"axis\" x1=\"0\" y1=\"{bottom}\" x2=\"{WIDTH}\" y2=\"{bottom}\"/></svg>"
    )
}

/// A bar a stream for this week and a thinner one for the week before, with the change.
pub(super) fn comparison(html: &mut String, id: &str, streams: &[StreamSummary]) -> Result {
    let of_both =
        |stream: &StreamSummary| (stream.figures.documents, stream.figures.growth.documents.before);
    let most = streams.iter().map(of_both).map(|(now, before)| now.max(before)).max().unwrap_or(0);
    let rows = streams.iter().map(|_| ROW).sum::<f64>();
    open(html, id, "Documents by stream, this week and the week before", rows)?;
    write!(html, "<desc id=\"{id}-d\">")?;
    for stream in streams {
        let (now, before) = of_both(stream);
        write!(html, "{}: {} after {}. ", Escaped(&stream.stream), exact(now), exact(before))?;
    }
    writeln!(html, "</desc>")?;
    let mut y = 0.0;
    for stream in streams {
        let (now, before) = of_both(stream);
        let (now_wide, before_wide) = (bar(now, most), bar(before, most));
        writeln!(
            html,
            "<svg y=\"{y}\" width=\"{NAMES}\" height=\"{ROW}\">\
             <text class=\"start\" y=\"17\">{}<title>{}</title></text></svg>\
             <rect class=\"bar\" x=\"{BARS_AT}\" y=\"{:.1}\" width=\"{now_wide:.1}\" height=\"13\" \
             rx=\"2\"/>\
             <rect class=\"before\" x=\"{BARS_AT}\" y=\"{:.1}\" width=\"{before_wide:.1}\" \
             height=\"5\" rx=\"1\"/>\
             <text class=\"start\" x=\"{:.1}\" y=\"{:.1}\">{} \
             <tspan class=\"quiet\">{}</tspan></text>",
            Escaped(&cut(&stream.stream, NAME_CHARS_MAX)),
            Escaped(&stream.stream),
            y + 5.0,
            y + 20.0,
            BARS_AT + now_wide.max(before_wide) + 10.0,
            y + 17.0,
            short(now),
            Escaped(&change(&stream.figures.growth.documents)),
        )?;
        y += ROW;
    }
    writeln!(html, "</svg>")
}

/// Seven bars the height of a line, for a table. What they show stands in the stream's own
/// section, so that it is left out for those who do not see it.
pub(super) fn spark(html: &mut String, days: &[DayFigures]) -> Result {
    let most = days.iter().map(|day| day.documents).max().unwrap_or(0);
    write!(html, "<svg class=\"spark\" viewBox=\"0 0 68 20\" aria-hidden=\"true\">")?;
    for (day, index) in days.iter().zip(0u8..) {
        let x = f64::from(index) * 10.0;
        let tall = if day.documents == 0 { 1.0 } else { 2.0 + part(day.documents, most) * 18.0 };
        let class = if day.documents == 0 { "before" } else { "bar" };
        let y = 20.0 - tall;
        write!(
            html,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y:.1}\" width=\"8\" height=\"{tall:.1}\"/>"
        )?;
    }
    write!(html, "</svg>")
}

/// A cell with a bar for a share in per cent, to stand before the cell with its number.
pub(super) fn share(html: &mut String, percent: f64) -> Result {
    let wide = percent.clamp(0.0, 100.0) * 0.6;
    write!(
        html,
        "<td class=\"share\"><svg class=\"share\" viewBox=\"0 0 60 8\" aria-hidden=\"true\">\
         <rect class=\"rail\" width=\"60\" height=\"8\" rx=\"1\"/>\
         <rect class=\"bar\" width=\"{wide:.1}\" height=\"8\" rx=\"1\"/></svg></td>"
    )
}

fn open(html: &mut String, id: &str, title: &str, height: f64) -> Result {
    writeln!(
        html,
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title>",
        Escaped(title)
    )
}

/// The length of a bar of the comparison; what is more than nothing can be seen.
fn bar(count: u64, most: u64) -> f64 {
    if count == 0 { 0.0 } else { (part(count, most) * BARS).max(2.0) }
}

/// `count` as a part of `most`: 0 to 1.
fn part(count: u64, most: u64) -> f64 {
    if most == 0 { 0.0 } else { count as f64 / most as f64 }
}
