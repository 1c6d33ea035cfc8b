//! Where a command works: account, region and environment, and what stands there already.

use std::collections::BTreeMap;
use std::time::Duration;

use inlet_deploy::Account;
use inlet_deploy::firewall;
use inlet_deploy::foundation::{Foundation, Given};
use inlet_deploy::stacks::{StackState, Stacks, Wanted};
use inlet_deploy::templates::{self, Environment, File, Resource, Shape};

use super::package::Package;
use super::{failed, misnamed};
use crate::cli::deploy::{LookArgs, ReleaseArgs};
use crate::report::{self, Hinted};

/// The account and its stacks.
pub(super) struct Place {
    pub(super) account: Account,
    pub(super) stacks: Stacks,
}

/// An environment in its place.
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) environment: Environment,
    pub(super) foundation: Option<Foundation>,
    /// What was given for it, now and before.
    pub(super) given: Given,
    /// Its stack, where there is one.
    pub(super) state: Option<StackState>,
    /// The registry of its images, where there is one.
    pub(super) registry: Option<StackState>,
    /// The firewall's template with the operator's rules, where there are such.
    waf: Option<String>,
}

impl Place {
    /// Asks who signs in, and says it.
    pub(super) async fn open(look: &LookArgs) -> anyhow::Result<Self> {
        let account = Account::from_environment().await;
        let stacks = Stacks::new(&account, Duration::from_millis(look.look_ms.max(1)));
        let (number, _) = account.identity().await.map_err(failed)?;
        report::say(format_args!("account {number}, region {}", account.region()));
        Ok(Self { account, stacks })
    }
}

impl Target {
    /// Reads what stands there and what was given for it.
    pub(super) async fn open(args: &ReleaseArgs, waf: Option<String>) -> anyhow::Result<Self> {
        let shape = Shape::from(args.environment.shape);
        // Words that don't fit are told before anybody is asked.
        let now = given_now(args)?;
        let name = &args.environment.env;
        check(name, &now, shape)?;
        let place = Place::open(&args.look).await?;
        let foundation = Foundation::find(&place.stacks).await.map_err(failed)?;
        let stack = format!("inlet-{name}-{}", shape.word());
        let mut given = match &foundation {
            Some(found) => {
                Given::read(&found.artifacts(&place.account), &stack).await.map_err(failed)?
            }
            None => Given::default(),
        };
        if args.reset {
            given.parameters.clear();
        }
        given.like = now.like.or(given.like);
        given.parameters.extend(now.parameters);
        let mut environment =
            Environment::named(name, given.like.as_deref(), shape).map_err(misnamed)?;
        for (name, value) in &given.parameters {
            environment.set(name, value).map_err(misnamed)?;
        }
        environment.settle_in(place.account.region());
        find_origin(&place, &mut environment, &given).await?;
        let state = place.stacks.state(&stack).await.map_err(failed)?;
        let registry = match shape {
            Shape::Serverless => None,
            Shape::Containers => {
                let stack = registry_stack(&environment);
                place.stacks.state(&stack).await.map_err(failed)?
            }
        };
        Ok(Self { place, environment, foundation, given, state, registry, waf })
    }

    /// What the environment's templates make.
    pub(super) fn resources(&self) -> anyhow::Result<Vec<Resource>> {
        let root = carried(self.environment.shape().root())?;
        let region = self.place.account.region();
        let mut resources = templates::resources(root, self.environment.parameters(), region)?;
        self.add_address_sets(&mut resources)?;
        Ok(resources)
    }

    /// The firewall's template with the operator's rules, where there are such.
    pub(super) fn waf(&self) -> Option<&str> {
        self.waf.as_deref()
    }

    /// Adds what the operator's firewall rules add to the firewall's template.
    fn add_address_sets(&self, resources: &mut Vec<Resource>) -> anyhow::Result<()> {
        const SET: &str = "AWS::WAFv2::IPSet";
        let Some(at) = resources.iter().position(|one| one.kind == "AWS::WAFv2::WebACL") else {
            return Ok(());
        };
        let Some(text) = &self.waf else { return Ok(()) };
        let template = templates::parse(firewall::TEMPLATE, text)?;
        let under = resources[at].path.rsplit_once('/').map_or("", |(under, _)| under).to_owned();
        let made = template["Resources"].as_object().into_iter().flatten();
        let sets = made.filter(|(_, made)| made["Type"] == SET).map(|(id, made)| Resource {
            path: format!("{under}/{id}"),
            kind: SET.to_owned(),
            sentence: made["Metadata"]["Inlet"]["Sentence"].as_str().unwrap_or("").to_owned(),
            deletion_policy: "Delete".to_owned(),
        });
        resources.splice(at + 1..at + 1, sets.collect::<Vec<_>>());
        Ok(())
    }

    /// The stack as it is to become, of the packages as they are now.
    pub(super) fn wanted(
        &self,
        foundation: &Foundation,
        package: &Package,
    ) -> anyhow::Result<Wanted> {
        let mut parameters = self.environment.parameters().clone();
        let release = package.release();
        let mut give = |name: &str, value: &str| parameters.insert(name.into(), value.into());
        give("ArtifactBucket", &foundation.bucket);
        give("ArtifactPrefix", &release.prefix);
        give("BoundaryArn", &foundation.boundary_arn);
        give("Architecture", package.architecture().function_name());
        if let Package::Image { image, .. } = package {
            let output = |name| self.registry.as_ref().and_then(|stack| stack.output(name));
            let missing = || Hinted::new("there is no registry of images", "run `inlet deploy`");
            let uri = output("RepositoryUri").ok_or_else(missing)?;
            give("Image", &format!("{uri}@{}", image.manifest.digest));
            give("RepositoryArn", &output("RepositoryArn").ok_or_else(missing)?);
            give("RegistryKeyArn", &foundation.key_arn);
        } else {
            let name = release.name(&parameters);
            parameters.insert("Release".into(), name);
        }
        Ok(Wanted {
            stack: self.environment.stack(),
            template: carried(self.environment.shape().root())?.text.into(),
            parameters: parameters.into_iter().collect(),
            tags: self.environment.tags().clone().into_iter().collect(),
            role_arn: Some(foundation.role_arn.clone()),
        })
    }
}

/// Gives containers the addresses from which CloudFront comes: each region names its own.
async fn find_origin(
    place: &Place,
    environment: &mut Environment,
    given: &Given,
) -> anyhow::Result<()> {
    const NAME: &str = "OriginPrefixListId";
    if environment.shape() == Shape::Serverless || given.parameters.contains_key(NAME) {
        return Ok(());
    }
    if let Some(id) = place.account.origin_prefix_list().await.map_err(failed)? {
        environment.set(NAME, &id).map_err(misnamed)?;
    }
    Ok(())
}

/// The stack of an environment's images.
pub(super) fn registry_stack(environment: &Environment) -> String {
    format!("inlet-{}-registry", environment.name())
}

/// A file that the binary carries.
pub(super) fn carried(path: &str) -> anyhow::Result<File> {
    templates::file(path).ok_or_else(|| anyhow::anyhow!("{path} is not in this binary"))
}

/// What is given on this command line.
fn given_now(args: &ReleaseArgs) -> anyhow::Result<Given> {
    let parameters = assignments("--parameter", &args.parameters)?;
    Ok(Given { like: args.like.clone(), parameters, migrated: None })
}

/// The values that a flag gives to names.
pub(super) fn assignments(
    flag: &str,
    texts: &[String],
) -> anyhow::Result<BTreeMap<String, String>> {
    let assignment = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => {
            let hint = format!("write {flag} NAME=VALUE");
            Err(Hinted::usage(format!("{text:?} gives no value"), hint).into())
        }
    };
    texts.iter().map(assignment).collect()
}

/// Refuses names and values that can't be, by what the binary carries alone.
fn check(name: &str, now: &Given, shape: Shape) -> anyhow::Result<()> {
    // Which environment a name of one's own is like may be remembered: any one has its parameters.
    let like = now.like.as_deref().or(match name {
        "staging" | "production" => None,
        _ => Some("staging"),
    });
    let mut environment = Environment::named(name, like, shape).map_err(misnamed)?;
    for (name, value) in &now.parameters {
        environment.set(name, value).map_err(misnamed)?;
    }
    Ok(())
}
