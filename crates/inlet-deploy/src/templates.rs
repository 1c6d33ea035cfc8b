//! The templates and environments of `deploy/`, which the binary carries.
//!
//! A stack is described by the files of the release that is deployed, and a release is one file:
//! nothing has to be fetched, and the templates can't be other ones than the binary was built with.

mod environment;
mod parse;
mod resolve;

pub use environment::{Declared, Difference, Environment, EnvironmentError};
pub use parse::{TemplateError, parse};
pub use resolve::{Resource, resources};

/// How Inlet stands on AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// Functions behind API Gateway.
    Serverless,
    /// Tasks behind a load balancer.
    Containers,
}

impl Shape {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Serverless, Self::Containers];

    /// Its word, as in file names: `serverless` or `containers`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Serverless => "serverless",
            Self::Containers => "containers",
        }
    }

    /// The path of its root template, which wires the modules.
    pub fn root(self) -> &'static str {
        match self {
            Self::Serverless => "serverless.yaml",
            Self::Containers => "containers.yaml",
        }
    }
}

/// A file of `deploy/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Its path below `deploy/`.
    pub path: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        &[$(File { path: $path, text: include_str!(concat!("../../../deploy/", $path)) }),+]
    };
}

/// Every file that a deployment may need.
pub const FILES: &[File] = files![
    "bootstrap.yaml",
    "containers.yaml",
    "global.yaml",
    "migration.yaml",
    "serverless.yaml",
    "modules/alarms.yaml",
    "modules/alb.yaml",
    "modules/api.yaml",
    "modules/bucket.yaml",
    "modules/cache.yaml",
    "modules/cdn.yaml",
    "modules/database.yaml",
    "modules/domain.yaml",
    "modules/ecr.yaml",
    "modules/ecs.yaml",
    "modules/functions.yaml",
    "modules/iam.yaml",
    "modules/keys.yaml",
    "modules/logs.yaml",
    "modules/network.yaml",
    "modules/pipeline.yaml",
    "modules/queue.yaml",
    "modules/schedule.yaml",
    "modules/secrets.yaml",
    "modules/table.yaml",
    "modules/waf.yaml",
    "environments/production.containers.json",
    "environments/production.serverless.json",
    "environments/staging.containers.json",
    "environments/staging.serverless.json",
    "static/errors/5xx.html",
];

/// The file at `path` below `deploy/`.
pub fn file(path: &str) -> Option<File> {
    FILES.iter().find(|file| file.path == path).copied()
}

/// The modules that root templates nest.
pub fn modules() -> impl Iterator<Item = File> {
    FILES.iter().filter(|file| file.path.starts_with("modules/")).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use std::path::Path;

    use super::*;

    #[test]
    fn every_template_and_environment_is_carried() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        for (below, ending) in [("", "yaml"), ("modules", "yaml"), ("environments", "json")] {
            for entry in std::fs::read_dir(directory.join(below)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|found| found == ending) {
                    let path = path.strip_prefix(&directory).unwrap().to_str().unwrap().to_owned();
                    assert!(file(&path).is_some(), "{path} is not in FILES");
                }
            }
        }
    }
}
