//! Settings: flags, then `INLET_…` variables, then `inlet.toml`, then defaults that need nothing.

mod memory;
mod role;
mod settings;
mod sources;

pub(crate) use role::Role;
pub(crate) use settings::{FleetOptions, SETTINGS, Setting, Settings};
pub(crate) use sources::{ConfigError, Sources};
