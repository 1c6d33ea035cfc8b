//! A deployment with Aurora: the schema is changed before a release takes traffic.
//!
//! | what stands | order |
//! | --- | --- |
//! | a release before this one | migrate, then the release |
//! | nothing | the stack, in containers without running tasks; migrate; then tasks |
//!
//! The migration is a stack of its own with the one role that may change the schema; it is removed
//! again, whether it worked or not.

use inlet_deploy::Migration;
use inlet_deploy::foundation::Foundation;
use inlet_deploy::stacks::{Event, StackState, Wanted};
use inlet_deploy::templates::{self, Shape};

use super::apply::{Outcome, Prepared, bring as bring_stack, carry_out, prepare};
use super::failed;
use super::package::Package;
use super::progress::Progress;
use super::target::{Target, carried};
use crate::cli::deploy::DeployArgs;
use crate::report;

/// Brings the environment's stack to what is wanted, with its database.
pub(super) async fn bring(
    target: &mut Target,
    foundation: &Foundation,
    package: &Package,
    args: &DeployArgs,
) -> anyhow::Result<Outcome> {
    let (mut wanted, resources) = (target.wanted(foundation, package)?, target.resources()?);
    let is_containers = target.environment.shape() == Shape::Containers;
    let release = name(&wanted, is_containers);
    let has_schema = target.given.migrated.is_some();
    let is_current = target.given.migrated.as_deref() == Some(release.as_str());
    let stands = target.state.as_ref().is_some_and(StackState::stands);
    // A stack that had no database before gets one by this very change.
    let database = target
        .state
        .clone()
        .filter(|state| stands && has_schema && state.output("DatabaseEndpoint").is_some());
    if let Some(state) = database {
        let planned = match prepare(target, &wanted, &resources, !args.yes).await? {
            Prepared::Nothing(state) => return Ok(Outcome::AsItWas(state)),
            Prepared::Agreed(planned) => planned,
        };
        if !is_current {
            let migrated = migrate(target, foundation, package, &wanted, &state).await;
            if let Err(error) = migrated {
                target.place.stacks.discard(planned).await.map_err(failed)?;
                return Err(error);
            }
            remember(target, foundation, &release).await?;
        }
        return Ok(Outcome::Changed(carry_out(target, planned, &resources).await?));
    }
    // No schema yet: nothing may run that needs it.
    if is_containers {
        wanted.parameters.push(("Serving".into(), "no".into()));
    }
    let state = match bring_stack(target, &wanted, &resources, !args.yes).await? {
        Outcome::Changed(state) | Outcome::AsItWas(state) => state,
    };
    migrate(target, foundation, package, &wanted, &state).await?;
    remember(target, foundation, &release).await?;
    if !is_containers {
        return Ok(Outcome::Changed(state));
    }
    wanted.parameters.retain(|(name, _)| name != "Serving");
    report::say("the database has its schema: the tasks are started");
    // It was asked already; what follows is what was agreed to.
    bring_stack(target, &wanted, &resources, false).await
}

/// What names the code whose schema the database has.
fn name(wanted: &Wanted, is_containers: bool) -> String {
    let of = if is_containers { "Image" } else { "ArtifactPrefix" };
    let found = wanted.parameters.iter().find(|(name, _)| name == of);
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

async fn remember(
    target: &mut Target,
    foundation: &Foundation,
    release: &str,
) -> anyhow::Result<()> {
    target.given.migrated = Some(release.to_owned());
    let artifacts = foundation.artifacts(&target.place.account);
    let stack = target.environment.stack();
    target.given.write(&artifacts, &stack).await.map_err(failed)
}

/// Makes the stack of the migration, runs it, and removes the stack.
async fn migrate(
    target: &Target,
    foundation: &Foundation,
    package: &Package,
    wanted: &Wanted,
    state: &StackState,
) -> anyhow::Result<()> {
    let file = carried("migration.yaml")?;
    let shape = target.environment.shape();
    let stack = format!("{}-migration", wanted.stack);
    let output = |name: &str| state.output(name).unwrap_or_default();
    let given = |name: &str| {
        let found = wanted.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let mut parameters = vec![
        ("Environment".to_owned(), target.environment.name().to_owned()),
        ("Shape".to_owned(), shape.word().to_owned()),
        ("Architecture".to_owned(), package.architecture().function_name().to_owned()),
        ("LogRetentionDays".to_owned(), given("LogRetentionDays")),
        ("BoundaryArn".to_owned(), foundation.boundary_arn.clone()),
    ];
    let from_outputs = [
        "SubnetAId",
        "SubnetBId",
        "AppSecurityGroupId",
        "DatabaseEndpoint",
        "OwnerSecretArn",
        "AppSecretArn",
        "DataKeyArn",
        "LogsKeyArn",
    ];
    parameters.extend(from_outputs.map(|name| (name.to_owned(), output(name))));
    match shape {
        Shape::Serverless => {
            let key = format!("{}functions.zip", package.release().prefix);
            parameters.push(("CodeBucket".into(), foundation.bucket.clone()));
            parameters.push(("CodeKey".into(), key));
            parameters.push(("StartRoleArn".into(), "none".into()));
        }
        Shape::Containers => {
            parameters.push(("Image".into(), given("Image")));
            parameters.push(("StartRoleArn".into(), output("StartRoleArn")));
        }
    }
    report::say("the schema is changed before the release takes traffic");
    let values = parameters.iter().cloned().collect();
    let resources = templates::resources(file, &values, target.place.account.region())?;
    let short_lived = Wanted {
        stack: stack.clone(),
        template: file.text.into(),
        parameters,
        tags: wanted.tags.clone(),
        role_arn: wanted.role_arn.clone(),
    };
    let ran = run(target, &short_lived, &resources, state, shape).await;
    // The leave to change the schema goes, whether it was of use or not.
    let mut progress = Progress::new(&resources);
    let removed = target.place.stacks.remove(&stack, &mut |event| progress.show(event)).await;
    ran?;
    removed.map_err(failed)
}

async fn run(
    target: &Target,
    wanted: &Wanted,
    resources: &[templates::Resource],
    environment: &StackState,
    shape: Shape,
) -> anyhow::Result<()> {
    let stacks = &target.place.stacks;
    let mut progress = Progress::new(resources);
    let mut see = |event: &Event| progress.show(event);
    let made = match stacks.plan(wanted, &mut see).await.map_err(failed)? {
        Some(planned) => stacks.apply(planned, &mut see).await.map_err(failed)?,
        None => stacks
            .state(&wanted.stack)
            .await
            .map_err(failed)?
            .ok_or_else(|| anyhow::anyhow!("{} went away", wanted.stack))?,
    };
    let output = |of: &StackState, name: &str| of.output(name).unwrap_or_default();
    let migration = match shape {
        Shape::Serverless => Migration::Function { name: output(&made, "FunctionName") },
        Shape::Containers => Migration::Task {
            definition: output(&made, "TaskArn"),
            cluster: output(environment, "ClusterArn"),
            subnets: vec![output(environment, "SubnetAId"), output(environment, "SubnetBId")],
            security_group: output(environment, "AppSecurityGroupId"),
        },
    };
    migration.run(&target.place.account, stacks.look_every()).await.map_err(failed)?;
    report::say("the schema is as this release needs it");
    Ok(())
}
