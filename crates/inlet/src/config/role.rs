//! Which command honours which setting.
//!
//! A setting that a command can't honour is an error, never ignored. A flag speaks to one command,
//! which refuses each that it can't honour. A variable or a line of `inlet.toml` speaks to every
//! command of the machine, so a command passes over those that are none of its business, and
//! refuses those that a person would expect it to enforce: whoever listens for requests refuses
//! what only another listener does.

use super::settings::Setting;
use super::sources::{ConfigError, Origin, Sources};

/// A command, as far as the settings it honours go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// `inlet up`.
    Up,
    /// `inlet edge`.
    Edge,
    /// `inlet serve`.
    Serve,
    /// `inlet persist`.
    Persist,
    /// `inlet summarize`.
    Summarize,
    /// Commands that open the engines themselves: `export`, `restore`, `migrate`.
    Engines,
    /// Commands that open the secrets only: `token`.
    Secrets,
    /// Commands that look into the data directory, or ask the server that runs on it.
    Directory,
    /// Those of them that take days, which begin in a time zone.
    Days,
    /// Commands for AWS.
    Deploy,
    /// Commands that read no settings.
    Nothing,
    /// `inlet config`, which prints them all.
    Config,
}

use Role::{
    Config, Days, Deploy, Directory, Edge, Engines, Nothing, Persist, Secrets, Serve, Summarize, Up,
};

impl Role {
    /// The role that the subcommand `name` of `inlet` is; `None` for a name that is none.
    pub(crate) fn of_command(name: &str) -> Option<Self> {
        Some(match name {
            "up" => Up,
            "edge" => Edge,
            "serve" => Serve,
            "persist" => Persist,
            "summarize" => Summarize,
            "export" | "restore" | "migrate" => Engines,
            "token" => Secrets,
            "status" | "reload" | "zone" | "send" | "get" | "file" | "streams" | "dead-letters"
            | "redrive" | "fsck" => Directory,
            "list" | "tail" | "replay" => Days,
            "template" | "plan" | "deploy" | "destroy" => Deploy,
            "bench" | "completions" => Nothing,
            "config" => Config,
            _ => return None,
        })
    }

    /// Whether it listens for requests.
    fn is_door(self) -> bool {
        matches!(self, Up | Edge | Serve)
    }

    /// The command that a person runs, for those that are one.
    fn command(self) -> Option<&'static str> {
        match self {
            Up => Some("`inlet up`"),
            Edge => Some("`inlet edge`"),
            Serve => Some("`inlet serve`"),
            Persist => Some("`inlet persist`"),
            Summarize => Some("`inlet summarize`"),
            Deploy => Some("`inlet deploy`"),
            Engines | Secrets | Directory | Days | Nothing | Config => None,
        }
    }
}

impl Setting {
    /// Whether `role` honours it.
    pub(crate) fn is_honoured_by(&self, role: Role) -> bool {
        role == Config || self.honoured_by.contains(&role)
    }

    /// Whether only listeners with an edge honour it.
    pub(crate) fn is_of_edges(&self) -> bool {
        self.honoured_by.iter().all(|role| matches!(role, Up | Edge | Deploy))
    }

    /// Where it belongs, as a hint says it.
    fn home(&self) -> String {
        let commands = self.honoured_by.iter().filter_map(|role| role.command());
        format!("it belongs to {}", commands.collect::<Vec<_>>().join(", "))
    }
}

impl Sources {
    /// Refuses what the command `name` can't honour.
    ///
    /// # Errors
    /// The first setting that would be ignored, and the commands it belongs to.
    pub(crate) fn check(&self, name: &str, role: Role) -> Result<(), ConfigError> {
        for (setting, value) in self.iter() {
            let is_refused = match value.origin {
                Origin::Default => false,
                Origin::Flag(_) => !setting.is_honoured_by(role),
                Origin::Variable(_) | Origin::File(_) => {
                    role.is_door() && setting.is_of_edges() && !setting.is_honoured_by(role)
                }
            };
            if is_refused {
                return Err(ConfigError::NotHonoured {
                    name: setting.name,
                    origin: value.origin.clone(),
                    command: name.to_owned(),
                    home: setting.home(),
                });
            }
        }
        self.check_engines(role)
    }

    /// Refuses limits of embedded engines where another engine is in use.
    fn check_engines(&self, role: Role) -> Result<(), ConfigError> {
        for (limit, engine, embedded) in
            [("cache_bytes_max", "cache", "memory:"), ("queue_bytes_max", "queue", "log:")]
        {
            let scheme = embedded.trim_end_matches(':');
            let is_embedded = self.text(engine).split(':').next() == Some(scheme);
            let is_read = matches!(role, Up | Serve);
            if is_read && self.is_given(limit) && !is_embedded {
                return Err(ConfigError::NoEffect {
                    name: limit,
                    origin: self.origin(limit).clone(),
                    why: format!("{engine} is not {embedded}"),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::super::settings::SETTINGS;
    use super::*;

    const ROLES: [Role; 12] = [
        Up, Edge, Serve, Persist, Summarize, Engines, Secrets, Directory, Days, Deploy, Nothing,
        Config,
    ];

    fn sources(name: &'static str, variable: bool) -> Sources {
        let flags = (!variable).then(|| (name, "1".to_owned()));
        let variables = variable.then(|| (format!("INLET_{}", name.to_uppercase()), "1".into()));
        Sources::read(flags, variables, None).unwrap()
    }

    #[test]
    fn a_flag_is_taken_by_the_commands_that_honour_it_and_refused_by_all_others() {
        for setting in SETTINGS {
            for role in ROLES {
                let checked = sources(setting.name, false).check("it", role);
                let is_honoured = setting.is_honoured_by(role);
                let is_refused = matches!(&checked, Err(ConfigError::NotHonoured { .. }));
                assert_eq!(is_refused, !is_honoured, "{} by {role:?}", setting.name);
            }
        }
    }

    #[test]
    fn a_variable_that_only_another_listener_enforces_is_refused_by_a_listener() {
        let is_refused = |name, role| sources(name, true).check("it", role).is_err();
        for name in ["firewall", "plans", "static", "access_log", "trusted_proxy", "hsts_s"] {
            assert!(is_refused(name, Serve), "{name}");
            assert!(!is_refused(name, Up) && !is_refused(name, Edge), "{name}");
            assert!(!is_refused(name, Persist) && !is_refused(name, Directory), "{name}");
        }
        assert!(is_refused("backend", Up) && is_refused("instances", Edge));
        for name in ["summary_cron", "queue", "threads", "attempts_max"] {
            assert!(ROLES.iter().all(|role| !is_refused(name, *role)), "{name}");
        }
    }

    #[test]
    fn every_setting_has_a_command_that_a_person_can_be_sent_to() {
        for setting in SETTINGS {
            assert!(setting.home().contains("`inlet "), "{}", setting.name);
        }
    }

    #[test]
    fn a_limit_of_an_engine_that_is_not_in_use_is_refused() {
        let read = |flags: &[(&'static str, &str)]| {
            let flags = flags.iter().map(|(name, text)| (*name, (*text).to_owned()));
            Sources::read(flags, [], None)
                .unwrap()
                .check("up", Up)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(&[("cache_bytes_max", "1MiB")]), Ok(()));
        assert_eq!(read(&[("queue", "log:"), ("queue_bytes_max", "1MiB")]), Ok(()));
        let refused = read(&[("cache", "redis://h"), ("cache_bytes_max", "1MiB")]).unwrap_err();
        assert_eq!(
            refused,
            "cache_bytes_max (--cache-bytes-max) has no effect: cache is not memory:"
        );
        assert!(read(&[("queue", "sqs://q"), ("queue_bytes_max", "1MiB")]).is_err());
    }
}
