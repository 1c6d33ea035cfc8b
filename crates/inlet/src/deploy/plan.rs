//! `inlet plan`: what a deployment would change, cost and need. Nothing is changed.

use std::collections::BTreeMap;

use inlet_deploy::actions::Actions;
use inlet_deploy::cost::{Cost, LOADS};
use inlet_deploy::plan::Plan;
use inlet_deploy::stacks::Event;
use inlet_deploy::templates::{self, Shape};
use serde_json::json;

use super::package::Package;
use super::target::{Target, carried, registry_stack};
use super::{failed, has_colour};
use crate::cli::deploy::{PlanArgs, ReleaseArgs};
use crate::report::{self, Hinted};

/// What a stack would become.
pub(super) struct Section {
    pub(super) stack: String,
    pub(super) plan: Plan,
}

/// Prints the plan with costs and permissions.
pub(super) async fn run(args: &PlanArgs, waf: Option<String>) -> anyhow::Result<()> {
    let target = Target::open(&args.release, waf).await?;
    let sections = sections(&target, &args.release).await?;
    let all: Vec<_> = sections.iter().flat_map(|one| one.plan.changes.clone()).collect();
    let actions = Actions::of(&Plan { changes: all })?;
    let cost = Cost::of(&target.environment)?;
    if args.json.json {
        let totals: BTreeMap<&str, f64> = LOADS.into_iter().zip(cost.totals()).collect();
        let stacks: BTreeMap<&str, _> =
            sections.iter().map(|one| (one.stack.as_str(), &one.plan.changes)).collect();
        return report::data(json!({
            "stacks": stacks,
            "usd_a_month": totals,
            "actions": { "deployer": actions.deployer, "cloudformation": actions.resources },
        }));
    }
    for section in &sections {
        section.print()?;
    }
    report::data(cost.text())?;
    report::data(actions.text().trim_end())
}

impl Section {
    /// Prints it.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        report::data(format_args!("{}\n{}", self.stack, self.plan.text(has_colour())))
    }
}

/// What would change, a stack each: by a change set where the stack stands, and by the templates
/// alone where it does not.
async fn sections(target: &Target, args: &ReleaseArgs) -> anyhow::Result<Vec<Section>> {
    let stack = target.environment.stack();
    let mut sections = missing_before(target)?;
    let resources = target.resources()?;
    let standing = target.state.as_ref().filter(|state| state.stands());
    let (Some(foundation), Some(state)) = (&target.foundation, standing) else {
        if let Some(state) = &target.state {
            report::say(format_args!(
                "{stack} is in {}: a deployment removes it and begins anew",
                state.status
            ));
        }
        sections.push(Section { stack, plan: Plan::of_all(&resources) });
        return Ok(sections);
    };
    let why = match state.status.as_str() {
        status if status.ends_with("IN_PROGRESS") => Some("wait until it is at rest"),
        "UPDATE_ROLLBACK_FAILED" => Some("`inlet deploy` continues its way back first"),
        _ => None,
    };
    if let Some(hint) = why {
        return Err(Hinted::new(format!("{stack} is in {}", state.status), hint).into());
    }
    let package = Package::make(target.environment.shape(), args, target.waf())?;
    // Templates have a name of their bytes: uploading them changes nothing that is there.
    let artifacts = foundation.artifacts(&target.place.account);
    package.release().upload(&artifacts, false).await.map_err(failed)?;
    let wanted = target.wanted(foundation, &package)?;
    let stacks = &target.place.stacks;
    let mut quiet = |_: &Event| {};
    let mut plan = Plan::default();
    if let Some(planned) = stacks.plan(&wanted, &mut quiet).await.map_err(failed)? {
        plan = planned.plan.clone();
        stacks.discard(planned).await.map_err(failed)?;
    }
    plan.say(&resources);
    sections.push(Section { stack, plan });
    Ok(sections)
}

/// The stacks that are made before the environment's own and are not there yet.
pub(super) fn missing_before(target: &Target) -> anyhow::Result<Vec<Section>> {
    let mut missing = Vec::new();
    if target.foundation.is_none() {
        missing.push((inlet_deploy::foundation::BOOTSTRAP.to_owned(), "bootstrap.yaml"));
    }
    if target.environment.shape() == Shape::Containers && target.registry.is_none() {
        missing.push((registry_stack(&target.environment), "modules/ecr.yaml"));
    }
    let region = target.place.account.region();
    let section = |(stack, path): (String, &str)| -> anyhow::Result<Section> {
        let resources = templates::resources(carried(path)?, &BTreeMap::new(), region)?;
        Ok(Section { stack, plan: Plan::of_all(&resources) })
    };
    missing.into_iter().map(section).collect()
}
