//! The settings of a function: the variables that `inlet` reads, as far as a function needs them.

use anyhow::{Context, bail};
use inlet_core::calendar::Calendar;
use inlet_core::limits::Limits;
use inlet_core::log_filter;
use inlet_core::schedule::Schedule;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What the variables say.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Which part is played: the handler, or `INLET_FUNCTION`.
    pub(crate) part: String,
    pub(crate) queue: String,
    pub(crate) store: String,
    pub(crate) bucket: String,
    pub(crate) cache: String,
    pub(crate) secrets: String,
    pub(crate) limits: Limits,
    pub(crate) calendar: Calendar,
    pub(crate) summary_cron: String,
    /// The most backups that are kept; 0 for all.
    pub(crate) backups_max: usize,
    /// The function's name and version, for `X-Instance-Id`.
    pub(crate) instance: String,
    /// The zone, where it is told; functions move between zones.
    pub(crate) zone: String,
    log_level: String,
}

impl Settings {
    /// Reads the variables.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let text = |name: &str, default: &str| {
            std::env::var(name).ok().filter(|text| !text.is_empty()).unwrap_or(default.to_owned())
        };
        let zone_name = text("INLET_TIME_ZONE", "UTC");
        let defaults = Limits::default();
        Ok(Self {
            part: text("INLET_FUNCTION", &text("_HANDLER", "intake")),
            queue: text("INLET_QUEUE", ""),
            store: text("INLET_STORE", ""),
            bucket: text("INLET_BUCKET", ""),
            cache: text("INLET_CACHE", "memory:"),
            secrets: text("INLET_SECRETS", ""),
            limits: Limits {
                body_bytes_max: number("INLET_BODY_BYTES_MAX", defaults.body_bytes_max)?,
                depth_max: number("INLET_DEPTH_MAX", defaults.depth_max)?,
                attempts_max: number("INLET_ATTEMPTS_MAX", defaults.attempts_max)?,
                streams_max: number("INLET_STREAMS_MAX", defaults.streams_max)?,
                ..defaults
            },
            calendar: Calendar::new(&zone_name)
                .map_err(|_| anyhow::anyhow!("INLET_TIME_ZONE: {zone_name:?} is no time zone"))?,
            backups_max: number("INLET_BACKUPS_MAX", 8)?,
            summary_cron: text("INLET_SUMMARY_CRON", "0 6 * * 1"),
            instance: format!(
                "{}-{}",
                text("AWS_LAMBDA_FUNCTION_NAME", "function"),
                text("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            ),
            zone: text("INLET_ZONE", &text("AWS_REGION", "local")),
            log_level: text("INLET_LOG_LEVEL", "info"),
        })
    }

    /// Sends log lines to standard error, as JSON: that is what CloudWatch can be asked about.
    pub(crate) fn log_lines(&self) -> anyhow::Result<()> {
        let (default, parts) = log_filter::parse(&self.log_level).with_context(|| {
            format!("INLET_LOG_LEVEL = {:?}: expected {}", self.log_level, log_filter::EXPECTED)
        })?;
        let filter = Targets::new().with_default(default).with_targets(parts);
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).json();
        tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .try_init()
            .map_err(|error| anyhow::anyhow!("could not initialise logging: {error}"))
    }

    /// When summaries are due.
    pub(crate) fn schedule(&self) -> anyhow::Result<Schedule> {
        Schedule::new(&self.summary_cron, self.calendar.zone_name())
            .map_err(|error| anyhow::anyhow!("INLET_SUMMARY_CRON: {error}"))
    }
}

/// A number, in bytes where it is a size.
fn number<T: std::str::FromStr>(name: &str, default: T) -> anyhow::Result<T> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => match text.parse() {
            Ok(number) => Ok(number),
            Err(_) => bail!("{name} = {text:?}: write a number without a unit"),
        },
        _ => Ok(default),
    }
}
