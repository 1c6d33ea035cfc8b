//! Where each setting's value comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use inlet_core::schedule::ScheduleError;

use super::settings::{SETTINGS, Setting};

/// Variables that begin with `INLET_` and are no settings.
const OTHER_VARIABLES: &[&str] = &["INLET_TOKEN", "INLET_CONFIG", "INLET_URL"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag, named.
    Flag(String),
    /// A variable, named.
    Variable(String),
    /// The file with this path.
    File(PathBuf),
    /// Nothing was given.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as it was given, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A value does not fit its setting.
    #[error("{name} = {text:?} ({origin}): expected {expected}")]
    Invalid { name: &'static str, text: String, origin: Origin, expected: String },
    /// The command can't honour the setting.
    #[error("{name} ({origin}) is not honoured by `inlet {command}`")]
    NotHonoured { name: &'static str, origin: Origin, command: String, home: String },
    /// The setting means nothing beside another one.
    #[error("{name} ({origin}) has no effect: {why}")]
    NoEffect { name: &'static str, origin: Origin, why: String },
    /// The schedule of summaries can't be used.
    #[error("{name} ({origin}): {source}")]
    Schedule { name: &'static str, origin: Origin, source: ScheduleError },
    /// A variable's value is not text.
    #[error("the variable {name} is not UTF-8")]
    NotText { name: String },
    /// There is no such setting.
    #[error("there is no setting {name:?} ({origin})")]
    Unknown { name: String, origin: Origin, nearest: Option<String> },
    /// The file can't be read.
    #[error("could not read the settings in {path}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The file is not TOML.
    #[error("{path} is not valid TOML")]
    Malformed { path: PathBuf, source: Box<toml::de::Error> },
}

impl ConfigError {
    /// What a person can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => {
                Some(format!("did you mean {nearest}?"))
            }
            Self::Unknown { .. } => Some("`inlet config` lists all settings".to_owned()),
            Self::NotHonoured { home, .. } => Some(home.clone()),
            Self::NoEffect { .. } => Some("leave it out".to_owned()),
            Self::Schedule { source, .. } => Some(source.hint()),
            _ => None,
        }
    }
}

/// The values of all settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    values: BTreeMap<&'static str, Value>,
}

impl Sources {
    /// Takes the values of flags, variables and the file, in this order, and defaults.
    pub(crate) fn read(
        flags: impl IntoIterator<Item = (&'static str, String)>,
        variables: impl IntoIterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            let text = setting.default.to_owned();
            values.insert(setting.name, Value { text, origin: Origin::Default });
        }
        if let Some(path) = file {
            for (name, text) in file_values(path)? {
                let origin = Origin::File(path.to_owned());
                values.insert(known(&name, &origin)?, Value { text, origin });
            }
        }
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix("INLET_") else { continue };
            if OTHER_VARIABLES.contains(&variable.as_str()) || is_of_kubernetes(name, &text) {
                continue;
            }
            let origin = Origin::Variable(variable.clone());
            values.insert(known(&name.to_ascii_lowercase(), &origin)?, Value { text, origin });
        }
        for (name, text) in flags {
            let origin = Origin::Flag(format!("--{}", name.replace('_', "-")));
            values.insert(name, Value { text, origin });
        }
        Ok(Self { values })
    }

    /// All settings with their values, in the order of [`SETTINGS`].
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static Setting, &Value)> {
        SETTINGS.iter().map(|setting| (setting, &self.values[setting.name]))
    }

    /// Whether a value was given.
    pub(super) fn is_given(&self, name: &'static str) -> bool {
        *self.origin(name) != Origin::Default
    }

    pub(super) fn origin(&self, name: &'static str) -> &Origin {
        &self.values[name].origin
    }

    pub(super) fn text(&self, name: &'static str) -> &str {
        self.values[name].text.trim()
    }

    pub(super) fn path(&self, name: &'static str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// The values of a setting that has any number of them.
    pub(super) fn list(&self, name: &'static str) -> Vec<String> {
        self.text(name).split_whitespace().map(str::to_owned).collect()
    }

    pub(super) fn invalid(&self, name: &'static str, expected: impl Into<String>) -> ConfigError {
        let Value { text, origin } = self.values[name].clone();
        ConfigError::Invalid { name, text, origin, expected: expected.into() }
    }

    /// A whole number from `min`.
    pub(super) fn number<T>(&self, name: &'static str, min: T) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let number = self.text(name).parse::<T>().ok().filter(|number| *number >= min);
        number.ok_or_else(|| self.invalid(name, format!("a whole number from {min}")))
    }

    /// A size in bytes from `min`.
    pub(super) fn size<T>(&self, name: &'static str, min: T) -> Result<T, ConfigError>
    where
        T: TryFrom<u64> + PartialOrd,
    {
        let size = self.text(name).parse::<bytesize::ByteSize>().ok();
        size.and_then(|size| T::try_from(size.as_u64()).ok())
            .filter(|size| *size >= min)
            .ok_or_else(|| self.invalid(name, "a size as in 64MiB"))
    }

    /// An address, by number or by name; `None` for `off`.
    pub(super) fn address(&self, name: &'static str) -> Result<Option<SocketAddr>, ConfigError> {
        match self.text(name) {
            "off" => Ok(None),
            text => text
                .to_socket_addrs()
                .ok()
                .and_then(|mut found| found.next())
                .map(Some)
                .ok_or_else(|| self.invalid(name, "an address as in 127.0.0.1:8443, or off")),
        }
    }

    /// A name that goes into headers and directories: letters, digits, `-`, `_` and `.`.
    pub(super) fn name(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let text = self.text(name);
        let fits = text.len() <= 64
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !fits {
            return Err(self.invalid(name, "at most 64 letters, digits, dashes and dots"));
        }
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }
}

/// Whether Kubernetes makes the variable `INLET_` and `name` for a Service that is called `inlet`
/// or `inlet-…`, or Docker for a link of that name: `SERVICE_HOST`, `SERVICE_PORT`,
/// `SERVICE_PORT_HTTPS`, `PORT=tcp://10.0.0.1:80`, `PORT_80_TCP`, `PORT_80_TCP_ADDR`.
/// Source: <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>.
fn is_of_kubernetes(name: &str, text: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    // The name of the Service may go on behind `inlet-`.
    let starts = std::iter::once(0).chain(name.match_indices('_').map(|(at, _)| at + 1));
    starts.map(|start| &name[start..]).any(|name| match name {
        "SERVICE_HOST" | "SERVICE_PORT" => true,
        "PORT" => is_address,
        _ => name.starts_with("SERVICE_PORT_") || name.strip_prefix("PORT_").is_some_and(is_port),
    })
}

/// Whether a name is `80_TCP`, or that with `_PROTO`, `_PORT` or `_ADDR`.
fn is_port(name: &str) -> bool {
    let mut parts = name.split('_');
    parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
        && parts.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
        && parts.next().is_none_or(|part| matches!(part, "PROTO" | "PORT" | "ADDR"))
        && parts.next().is_none()
}

fn known(name: &str, origin: &Origin) -> Result<&'static str, ConfigError> {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
        return Ok(setting.name);
    }
    let nearest = SETTINGS
        .iter()
        .map(|setting| (strsim::jaro_winkler(setting.name, name), setting.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.75)
        .map(|(_, nearest)| match origin {
            Origin::Variable(_) => format!("INLET_{}", nearest.to_ascii_uppercase()),
            _ => nearest.to_owned(),
        });
    Err(ConfigError::Unknown { name: name.to_owned(), origin: origin.clone(), nearest })
}

fn file_values(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let table: toml::Table = text.parse().map_err(|source| ConfigError::Malformed {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let values = table.into_iter().map(|(name, value)| match value {
        toml::Value::String(text) => (name, text),
        toml::Value::Array(values) if values.iter().all(toml::Value::is_str) => {
            let values: Vec<&str> = values.iter().filter_map(toml::Value::as_str).collect();
            (name, values.join(" "))
        }
        other => (name, other.to_string()),
    });
    Ok(values.collect())
}

#[cfg(test)]
mod tests {
    use super::super::role::Role;
    use super::super::settings::Settings;
    use super::*;

    fn read(
        flags: &[(&'static str, &str)],
        variables: &[(&str, &str)],
        file: Option<&str>,
    ) -> Result<Sources, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inlet.toml");
        std::fs::write(&path, file.unwrap_or_default()).unwrap();
        Sources::read(
            flags.iter().map(|(name, text)| (*name, (*text).to_owned())),
            variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())),
            file.map(|_| path.as_path()),
        )
    }

    #[test]
    fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
        let (file, variable) = (Some("zone = \"file\"\nthreads = 3"), ("INLET_ZONE", "variable"));
        let zone = |sources: Sources| sources.text("zone").to_owned();
        assert_eq!(zone(read(&[("zone", "flag")], &[variable], file).unwrap()), "flag");
        assert_eq!(zone(read(&[], &[variable], file).unwrap()), "variable");
        assert_eq!(zone(read(&[], &[], file).unwrap()), "file");
        assert_eq!(zone(read(&[], &[], None).unwrap()), "local");
        assert_eq!(Settings::read(&read(&[], &[], file).unwrap(), Role::Up).unwrap().threads, 3);
    }

    #[test]
    fn a_setting_that_is_not_known_is_refused_with_the_nearest_one() {
        let error = read(&[], &[], Some("qeue = \"log:\"")).unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("did you mean queue?"));
        let error = read(&[], &[("INLET_HTPS", "x")], None).unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("did you mean INLET_HTTPS?"));
    }

    #[test]
    fn variables_of_a_kubernetes_service_are_no_settings() {
        let variables = [
            ("INLET_SERVICE_HOST", "10.0.0.7"),
            ("INLET_SERVICE_PORT", "8443"),
            ("INLET_SERVICE_PORT_HTTPS", "8443"),
            ("INLET_PORT", "tcp://10.0.0.7:8443"),
            ("INLET_PORT_8443_TCP", "tcp://10.0.0.7:8443"),
            ("INLET_PORT_8443_TCP_PROTO", "tcp"),
            ("INLET_PORT_8443_TCP_PORT", "8443"),
            ("INLET_PORT_8443_TCP_ADDR", "10.0.0.7"),
            ("INLET_PORT_53_UDP", "udp://10.0.0.7:53"),
            ("INLET_EDGE_SERVICE_HOST", "10.0.0.8"),
            ("INLET_EDGE_PUBLIC_PORT", "tcp://10.0.0.8:443"),
            ("INLET_EDGE_PUBLIC_PORT_443_TCP_ADDR", "10.0.0.8"),
        ];
        for variable in variables {
            assert!(read(&[], &[variable], None).is_ok(), "{variable:?}");
        }
        for variable in [
            ("INLET_PORT", "8443"),
            ("INLET_SERVICE", "x"),
            ("INLET_HOST", "10.0.0.7"),
            ("INLET_PORT_X_TCP", "1"),
            ("INLET_PORT_1_TCP_X", "1"),
        ] {
            let error = read(&[], &[variable], None).unwrap_err();
            assert!(matches!(error, ConfigError::Unknown { .. }), "{variable:?}");
        }
    }

    #[test]
    fn a_schedule_or_a_number_that_can_not_be_is_refused_with_its_name() {
        for (name, text) in [
            ("summary_cron", "x"),
            ("summary_cron", "0 0 30 2 *"),
            ("time_zone", "Mars/Olympus"),
            ("log_level", "inf"),
            ("hang_s", "0"),
            ("threads", "65"),
            ("connections_max", "0"),
            ("attempts_max", "0"),
            ("body_bytes_max", "0"),
        ] {
            let error =
                Settings::read(&read(&[(name, text)], &[], None).unwrap(), Role::Up).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }

    #[test]
    fn a_setting_of_the_edge_makes_up_one_instance_behind_an_edge() {
        let fleet = |flags: &[(&'static str, &str)]| {
            Settings::read(&read(flags, &[], None).unwrap(), Role::Up).unwrap().fleet
        };
        for (name, text) in [("firewall", "f.toml"), ("access_log", "-"), ("hsts_s", "9")] {
            let fleet = fleet(&[(name, text)]).unwrap();
            assert_eq!((fleet.instances, fleet.zones, fleet.asked_by), (1, 1, name));
        }
        assert_eq!(fleet(&[("pages", "p"), ("zone", "a")]), None);
        let flags = [("instances", "2"), ("zone", "a")];
        let error = Settings::read(&read(&flags, &[], None).unwrap(), Role::Up).unwrap_err();
        assert!(error.to_string().starts_with("zone (--zone) has no effect"), "{error}");
    }

    #[test]
    fn defaults_can_be_read() {
        let settings = Settings::read(&read(&[], &[], None).unwrap(), Role::Up).unwrap();
        // Its default is by this machine's memory.
        let bodies_bytes_max = settings.limits.bodies_bytes_max;
        let defaults = inlet_core::limits::Limits::default();
        assert_eq!(settings.limits, inlet_core::limits::Limits { bodies_bytes_max, ..defaults });
        assert_eq!(settings.queue_bytes_max, 4 << 30);
    }

    #[test]
    fn instances_and_zones_are_one_each_where_only_the_other_is_given() {
        let fleet = |flags: &[(&'static str, &str)]| {
            let settings = Settings::read(&read(flags, &[], None).unwrap(), Role::Up);
            settings.map(|settings| settings.fleet.map(|fleet| (fleet.instances, fleet.zones)))
        };
        assert_eq!(fleet(&[]).unwrap(), None);
        assert_eq!(fleet(&[("instances", "3")]).unwrap(), Some((3, 1)));
        assert_eq!(fleet(&[("zones", "2")]).unwrap(), Some((1, 2)));
        let error = fleet(&[("zones", "0")]).unwrap_err().to_string();
        assert_eq!(error, "zones = \"0\" (--zones): expected a number from 1 to 8");
    }

    #[test]
    fn a_value_that_does_not_fit_names_the_setting_and_its_origin() {
        let sources = read(&[], &[("INLET_BODY_BYTES_MAX", "lots")], None).unwrap();
        let error = Settings::read(&sources, Role::Up).unwrap_err().to_string();
        assert_eq!(
            error,
            "body_bytes_max = \"lots\" (INLET_BODY_BYTES_MAX): expected a size as in 64MiB"
        );
    }
}
