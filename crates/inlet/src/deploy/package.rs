//! What is shipped: made of an executable on this machine, the same bytes for the same input.

use std::path::{Path, PathBuf};

use inlet_deploy::package::{Architecture, Executable, Image, function_zip, sbom};
use inlet_deploy::templates::Shape;
use inlet_deploy::{Release, firewall};

use super::unpackaged;
use crate::cli::deploy::ReleaseArgs;
use crate::report::{self, Hinted};

/// The crates that this binary was built of.
const LOCK: &str = include_str!("../../../../Cargo.lock");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The package of a shape, with the templates that go with it.
pub(super) enum Package {
    /// Functions.
    Zip {
        /// The zip among the templates.
        release: Release,
        /// For which processor.
        architecture: Architecture,
    },
    /// Tasks.
    Image {
        /// What is pushed.
        image: Image,
        /// The templates.
        release: Release,
        /// For which processor.
        architecture: Architecture,
    },
}

impl Package {
    /// Packages the executable of a shape, with `waf` as the firewall's template where it is given.
    pub(super) fn make(
        shape: Shape,
        args: &ReleaseArgs,
        waf: Option<&str>,
    ) -> anyhow::Result<Self> {
        let path = match shape {
            Shape::Serverless => function_binary(args.function_binary.as_deref())?,
            Shape::Containers => match &args.image_binary {
                Some(given) => given.clone(),
                None => std::env::current_exe()?,
            },
        };
        let executable = Executable::read(&path).map_err(unpackaged)?;
        let architecture = executable.architecture();
        let list = |artifact: &[u8]| -> anyhow::Result<Vec<u8>> {
            let list = sbom("inlet", VERSION, LOCK, artifact).map_err(unpackaged)?;
            Ok(list.to_string().into_bytes())
        };
        let package = match shape {
            Shape::Serverless => {
                let zip = function_zip(&executable).map_err(unpackaged)?;
                let list = list(&zip)?;
                let release = with_rules(Release::new(Some(zip), Some(list)), waf);
                Self::Zip { release, architecture }
            }
            Shape::Containers => {
                let image = Image::new(&executable, VERSION).map_err(unpackaged)?;
                let release = Release::new(None, Some(list(&image.manifest.bytes)?));
                let release = with_rules(release, waf);
                Self::Image { image, release, architecture }
            }
        };
        report::say(format_args!(
            "packaged {} for {}",
            path.display(),
            architecture.function_name()
        ));
        Ok(package)
    }

    /// What is uploaded.
    pub(super) fn release(&self) -> &Release {
        match self {
            Self::Zip { release, .. } | Self::Image { release, .. } => release,
        }
    }

    /// For which processor.
    pub(super) fn architecture(&self) -> Architecture {
        match self {
            Self::Zip { architecture, .. } | Self::Image { architecture, .. } => *architecture,
        }
    }
}

/// The release with the operator's firewall rules, where there are such.
fn with_rules(release: Release, waf: Option<&str>) -> Release {
    match waf {
        Some(text) => release.with_file(firewall::TEMPLATE, text.to_owned()),
        None => release,
    }
}

/// The executable of functions: the one given, or the one beside this, or the one that
/// `scripts/function` puts beside this one's directory.
fn function_binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let own = std::env::current_exe()?;
    let beside = own.parent().unwrap_or(Path::new(".")).to_owned();
    let places = [beside.join("inlet-lambda"), beside.join("../lambda/inlet-lambda")];
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let hint = "build it with `scripts/function`, or name it: --function-binary FILE";
        Hinted::new(format!("there is no inlet-lambda in {}", beside.display()), hint).into()
    })
}
