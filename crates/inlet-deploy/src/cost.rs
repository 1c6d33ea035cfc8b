//! What an environment costs a month at three loads, by `deploy/prices.toml`: list prices that
//! were written down by hand on one day. The arithmetic is shown with each amount.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::templates::Environment;

const PRICES: &str = include_str!("../../../deploy/prices.toml");
/// The loads, in the order of their size.
pub const LOADS: [&str; 3] = ["small", "middle", "large"];

/// The prices can't be read, which would be damage to the binary.
#[derive(Debug, thiserror::Error)]
#[error("the prices can't be read: {0}")]
pub struct PricesError(String);

/// One thing that is paid for.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What it is.
    pub what: String,
    /// USD for one unit.
    pub usd: f64,
    /// The unit.
    pub unit: String,
    /// How many units a month, a load each, in the order of [`LOADS`].
    pub quantities: [f64; 3],
}

/// What is paid for, and when the prices were written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// The region whose prices they are.
    pub region: String,
    /// The day, as `2025-06-30`.
    pub date: String,
    /// What each load is, in words, in the order of [`LOADS`].
    pub loads: [String; 3],
    /// What is paid for.
    pub lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Prices {
    region: String,
    date: String,
    hours_a_month: f64,
    loads: BTreeMap<String, Load>,
    prices: BTreeMap<String, Price>,
    uses: Vec<Use>,
}

#[derive(Deserialize)]
struct Load {
    title: String,
    documents: f64,
    reads: f64,
    stored_gib: f64,
}

#[derive(Deserialize)]
struct Price {
    usd: f64,
    unit: String,
}

#[derive(Deserialize)]
struct Use {
    shapes: Vec<String>,
    what: String,
    price: String,
    #[serde(default)]
    fixed: f64,
    #[serde(default)]
    hourly: f64,
    #[serde(default)]
    documents: f64,
    #[serde(default)]
    reads: f64,
    #[serde(default)]
    stored_gib: f64,
    #[serde(default)]
    times: Vec<String>,
    #[serde(default)]
    when: BTreeMap<String, Vec<String>>,
}

impl Cost {
    /// What `environment` is paid for.
    pub fn of(environment: &Environment) -> Result<Self, PricesError> {
        let missing = |what: &str| PricesError(format!("{what} is not there"));
        let read: Prices =
            toml::from_str(PRICES).map_err(|error| PricesError(error.to_string()))?;
        let mut loads = Vec::new();
        for name in LOADS {
            loads.push(read.loads.get(name).ok_or_else(|| missing(name))?);
        }
        let values = environment.parameters();
        let mut lines = Vec::new();
        for one in &read.uses {
            let holds = one
                .when
                .iter()
                .all(|(name, few)| values.get(name).is_some_and(|value| few.contains(value)));
            if !holds || !one.shapes.iter().any(|shape| shape == environment.shape().word()) {
                continue;
            }
            let mut factor = 1.0;
            for name in &one.times {
                let value = values.get(name).ok_or_else(|| missing(name))?;
                factor *= number(value).ok_or_else(|| missing(name))?;
            }
            let price = read.prices.get(&one.price).ok_or_else(|| missing(&one.price))?;
            let mut quantities = [0.0; 3];
            for (quantity, load) in quantities.iter_mut().zip(&loads) {
                *quantity = factor
                    * (one.fixed
                        + one.hourly * read.hours_a_month
                        + one.documents * load.documents
                        + one.reads * load.reads
                        + one.stored_gib * load.stored_gib);
            }
            let (what, unit) = (one.what.clone(), price.unit.clone());
            lines.push(Line { what, usd: price.usd, unit, quantities });
        }
        let [small, middle, large] = loads[..] else { return Err(missing("a load")) };
        let loads = [small.title.clone(), middle.title.clone(), large.title.clone()];
        Ok(Self { region: read.region, date: read.date, loads, lines })
    }

    /// USD a month, a load each, in the order of [`LOADS`].
    pub fn totals(&self) -> [f64; 3] {
        let mut totals = [0.0; 3];
        for line in &self.lines {
            for (total, quantity) in totals.iter_mut().zip(line.quantities) {
                *total += quantity * line.usd;
            }
        }
        totals
    }

    /// The costs for a terminal, each amount with how it comes about.
    pub fn text(&self) -> String {
        let mut text = format!(
            "what it costs in USD a month, by {}'s list prices of {}, counted and not measured\n",
            self.region, self.date
        );
        for (name, title) in LOADS.iter().zip(&self.loads) {
            writeln!(text, "  {name:<7} {title}").expect("a String takes all");
        }
        for line in &self.lines {
            let amount = |quantity: f64| {
                format!("{} = ${}", grouped(quantity, 3), money(quantity * line.usd))
            };
            let [small, middle, large] = line.quantities.map(amount);
            writeln!(text, "  {}, ${} a {}", line.what, line.usd, line.unit)
                .expect("a String takes all");
            writeln!(text, "    {small:>24} {middle:>24} {large:>24}").expect("a String takes all");
        }
        let [small, middle, large] = self.totals().map(|total| format!("${}", money(total)));
        writeln!(text, "  together\n    {small:>24} {middle:>24} {large:>24}")
            .expect("a String takes all");
        text
    }
}

/// A parameter's value as a number; endpoints of one zone or both as 1 or 2.
fn number(value: &str) -> Option<f64> {
    match value {
        "one" => Some(1.0),
        "both" => Some(2.0),
        value => value.parse().ok(),
    }
}

/// An amount as people write it: cents only where they matter.
pub fn money(usd: f64) -> String {
    if usd < 100.0 { format!("{usd:.2}") } else { grouped(usd, 0) }
}

/// A number with commas at thousands, and at most so many decimals where it is small.
fn grouped(number: f64, decimals: usize) -> String {
    let text =
        if number >= 100.0 { format!("{number:.0}") } else { format!("{number:.decimals$}") };
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match part.trim_end_matches('0') {
        "" => grouped,
        part => format!("{grouped}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use std::path::Path;

    use super::*;
    use crate::templates::Shape;

    /// Another program computes the table of docs/AWS.md from the same prices.
    #[test]
    fn the_totals_are_those_of_the_documentation() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/AWS.md");
        let page = std::fs::read_to_string(page).unwrap();
        for shape in Shape::ALL {
            for (name, store) in [
                ("staging", "dynamodb"),
                ("staging", "aurora"),
                ("production", "dynamodb"),
                ("production", "aurora"),
            ] {
                let mut environment = Environment::named(name, None, shape).unwrap();
                environment.set("Store", store).unwrap();
                if shape == Shape::Serverless && store == "aurora" {
                    environment.set("InNetwork", "yes").unwrap();
                }
                let [small, middle, large] = Cost::of(&environment).unwrap().totals().map(money);
                let row = format!(
                    "| {}, {name}, {store} | ${small} | ${middle} | ${large} |\n",
                    shape.word()
                );
                assert!(page.contains(&row), "{row}");
            }
        }
    }

    #[test]
    fn each_amount_is_shown_with_its_arithmetic() {
        let staging = Environment::named("staging", None, Shape::Serverless).unwrap();
        let text = Cost::of(&staging).unwrap().text();
        assert!(text.contains("1.1 = $3.85"), "{text}");
        assert!(text.contains("550 = $1,925"), "{text}");
    }
}
