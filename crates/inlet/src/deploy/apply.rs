//! `inlet deploy`: packages, shows what would change, asks, and changes it.
//!
//! Each step leaves what a second run finds and need not do again: the bootstrap stack, uploads
//! under a name of their bytes, an image by its digest, a stack that is there.

use inlet_deploy::Bucket;
use inlet_deploy::foundation::{BOOTSTRAP, BOOTSTRAP_TAGS, Foundation};
use inlet_deploy::package::{Credentials, Registry};
use inlet_deploy::stacks::{Event, Planned, StackState, Wanted};
use inlet_deploy::templates::{self, Resource};

use super::package::Package;
use super::plan::Section;
use super::progress::Progress;
use super::target::{Target, assignments, carried, registry_stack};
use super::{failed, migration, question, unpackaged};
use crate::cli::deploy::DeployArgs;
use crate::report::{self, Hinted};

/// What a stack has become.
pub(super) enum Outcome {
    /// Another than it was.
    Changed(StackState),
    /// There was nothing to change.
    AsItWas(StackState),
}

/// What a stack is about to become.
pub(super) enum Prepared {
    /// There is nothing to change.
    Nothing(StackState),
    /// What was shown and agreed to.
    Agreed(Planned),
}

impl Outcome {
    fn into_state(self) -> StackState {
        match self {
            Self::Changed(state) | Self::AsItWas(state) => state,
        }
    }
}

/// Deploys.
pub(super) async fn run(args: &DeployArgs, waf: Option<String>) -> anyhow::Result<()> {
    // What can't be packaged is told before anything is asked or changed.
    let package =
        Package::make(args.release.environment.shape.into(), &args.release, waf.as_deref())?;
    let mut target = Target::open(&args.release, waf).await?;
    let foundation = lay(&target, args).await?;
    let artifacts = foundation.artifacts(&target.place.account);
    if let Package::Image { .. } = &package {
        let state = bring_registry(&target, &foundation, args).await?;
        push(&target, &state, &package, args).await?;
        target.registry = Some(state);
    }
    package.release().upload(&artifacts, true).await.map_err(failed)?;
    let outcome = if target.environment.parameters().get("Store").is_some_and(|one| one == "aurora")
    {
        migration::bring(&mut target, &foundation, &package, args).await?
    } else {
        let (wanted, resources) = (target.wanted(&foundation, &package)?, target.resources()?);
        bring(&target, &wanted, &resources, !args.yes).await?
    };
    // What was given is remembered once it stands.
    let stack = target.environment.stack();
    target.given.write(&artifacts, &stack).await.map_err(failed)?;
    if let Outcome::Changed(state) = &outcome {
        put_static_files(&target, state).await?;
    }
    match outcome {
        Outcome::AsItWas(_) => report::say("nothing to change"),
        Outcome::Changed(state) => {
            for (name, value) in &state.outputs {
                report::data(format_args!("{name:<20} {value}"))?;
            }
            greet(&state)?;
        }
    }
    Ok(())
}

/// Shows what would change of a stack, asks, and changes it.
pub(super) async fn bring(
    target: &Target,
    wanted: &Wanted,
    resources: &[Resource],
    asks: bool,
) -> anyhow::Result<Outcome> {
    match prepare(target, wanted, resources, asks).await? {
        Prepared::Nothing(state) => Ok(Outcome::AsItWas(state)),
        Prepared::Agreed(planned) => {
            Ok(Outcome::Changed(carry_out(target, planned, resources).await?))
        }
    }
}

/// Shows what would change of a stack, and asks.
pub(super) async fn prepare(
    target: &Target,
    wanted: &Wanted,
    resources: &[Resource],
    asks: bool,
) -> anyhow::Result<Prepared> {
    let stacks = &target.place.stacks;
    let mut progress = Progress::new(resources);
    let mut see = |event: &Event| progress.show(event);
    let Some(planned) = stacks.plan(wanted, &mut see).await.map_err(failed)? else {
        let state = stacks.state(&wanted.stack).await.map_err(failed)?;
        let state = state.ok_or_else(|| anyhow::anyhow!("{} went away", wanted.stack))?;
        return Ok(Prepared::Nothing(state));
    };
    let mut plan = planned.plan.clone();
    plan.say(resources);
    Section { stack: wanted.stack.clone(), plan }.print()?;
    if asks && let Err(refused) = question::go_on(&format!("change {}?", wanted.stack)).await {
        stacks.discard(planned).await.map_err(failed)?;
        return Err(refused);
    }
    Ok(Prepared::Agreed(planned))
}

/// Changes a stack as it was agreed to.
pub(super) async fn carry_out(
    target: &Target,
    planned: Planned,
    resources: &[Resource],
) -> anyhow::Result<StackState> {
    let mut progress = Progress::new(resources);
    let mut see = |event: &Event| progress.show(event);
    target.place.stacks.apply(planned, &mut see).await.map_err(failed)
}

/// Makes what an account and region need once, where it is not there; changes it where that is
/// wanted. Who deploys otherwise, as CI does, need not be allowed to.
async fn lay(target: &Target, args: &DeployArgs) -> anyhow::Result<Foundation> {
    let mut parameters = assignments("--bootstrap-parameter", &args.bootstrap_parameters)?;
    let is_wanted = args.with_bootstrap || !parameters.is_empty();
    match &target.foundation {
        Some(foundation) if !is_wanted => return Ok(foundation.clone()),
        Some(_) => {}
        None => report::say(
            "this account and region are new to Inlet: what they need once is made first",
        ),
    }
    let file = carried("bootstrap.yaml")?;
    let template = templates::parse(file.path, file.text)?;
    let known: Vec<_> =
        template["Parameters"].as_object().into_iter().flat_map(|all| all.keys()).collect();
    if let Some(name) = parameters.keys().find(|name| !known.contains(name)) {
        let names: Vec<_> = known.iter().map(|name| name.as_str()).collect();
        let hint = format!("it has {}", names.join(", "));
        return Err(Hinted::usage(format!("{BOOTSTRAP} has no parameter {name}"), hint).into());
    }
    // What was given before stays, unless this release has no such parameter any more.
    let before = target.place.stacks.state(BOOTSTRAP).await.map_err(failed)?;
    for (name, value) in before.map(|state| state.parameters).unwrap_or_default() {
        if known.contains(&&name) {
            parameters.entry(name).or_insert(value);
        }
    }
    let region = target.place.account.region();
    let resources = templates::resources(file, &parameters, region)?;
    let wanted = Wanted {
        stack: BOOTSTRAP.into(),
        template: file.text.into(),
        parameters: parameters.into_iter().collect(),
        tags: BOOTSTRAP_TAGS.map(|(name, value)| (name.into(), value.into())).into(),
        role_arn: None,
    };
    let state = bring(target, &wanted, &resources, !args.yes).await?.into_state();
    Foundation::of(&state).ok_or_else(|| anyhow::anyhow!("{BOOTSTRAP} has not all its outputs"))
}

/// Makes the registry of images, which has to be there before the services that run them.
async fn bring_registry(
    target: &Target,
    foundation: &Foundation,
    args: &DeployArgs,
) -> anyhow::Result<StackState> {
    let file = carried("modules/ecr.yaml")?;
    let wanted = Wanted {
        stack: registry_stack(&target.environment),
        template: file.text.into(),
        parameters: vec![
            ("Environment".into(), target.environment.name().into()),
            ("KeyArn".into(), foundation.key_arn.clone()),
        ],
        tags: target.environment.tags().clone().into_iter().collect(),
        role_arn: Some(foundation.role_arn.clone()),
    };
    let region = target.place.account.region();
    let resources = templates::resources(file, &Default::default(), region)?;
    Ok(bring(target, &wanted, &resources, !args.yes).await?.into_state())
}

/// Pushes the image; one that is there is not sent again.
async fn push(
    target: &Target,
    registry: &StackState,
    package: &Package,
    args: &DeployArgs,
) -> anyhow::Result<()> {
    let Package::Image { image, .. } = package else { return Ok(()) };
    let uri = registry.output("RepositoryUri").unwrap_or_default();
    let (host, name) = uri.split_once('/').unwrap_or(("", &uri));
    let credentials = match &args.registry_url {
        Some(_) => Credentials::None,
        None => Credentials::of_registry(&target.place.account).await.map_err(failed)?,
    };
    let url = args.registry_url.clone().unwrap_or_else(|| format!("https://{host}"));
    let (name, image) = (name.to_owned(), image.clone());
    let tag: String = image.manifest.digest.chars().skip("sha256:".len()).take(32).collect();
    let pushed = tokio::task::spawn_blocking(move || {
        Registry::new(&url, &name, credentials).push(&image, &tag)
    });
    let digest = pushed.await?.map_err(unpackaged)?;
    report::say(format_args!("the image is there: {uri}@{digest}"));
    Ok(())
}

/// Puts the page for failures where the front door looks for it, unless one is there: it may be
/// the user's own.
async fn put_static_files(target: &Target, state: &StackState) -> anyhow::Result<()> {
    let Some(name) = state.output("StaticBucketName") else { return Ok(()) };
    let bucket = Bucket::new(&target.place.account, &name);
    let there = bucket.keys("static/").await.map_err(failed)?;
    for file in templates::FILES.iter().filter(|file| file.path.starts_with("static/")) {
        if !there.iter().any(|key| key == file.path) {
            bucket.put(file.path, file.text.as_bytes().to_vec()).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Says how the first document is sent.
fn greet(state: &StackState) -> anyhow::Result<()> {
    let output = |name: &str| state.output(name).unwrap_or_default();
    report::say(format_args!(
        "\nmake a token, then send a document:\n  \
         inlet token add first --secrets 'aws-secrets-manager://{}'",
        output("SecretArn")
    ));
    report::data(format_args!(
        "curl {}/api/save -H 'X-Auth-Token: TOKEN' -H 'Content-Type: application/json' \
         -d '{{\"hello\":\"world\"}}'",
        output("Url").trim_end_matches('/')
    ))
}
