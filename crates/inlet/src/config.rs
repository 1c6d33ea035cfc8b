//! Settings: flags, then `INLET_…` variables, then `inlet.toml`, then defaults that need nothing.

mod settings;
mod sources;

pub(crate) use settings::{FleetOptions, SETTINGS, Settings};
pub(crate) use sources::{ConfigError, Sources};
