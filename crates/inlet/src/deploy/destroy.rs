//! `inlet destroy`: says what goes and what stays, asks for the environment's name, removes, and
//! shows what is left.

use std::collections::BTreeMap;

use inlet_deploy::foundation::{BOOTSTRAP, BOOTSTRAP_TAGS, Foundation};
use inlet_deploy::remains::{Kind, Remain, Remains};
use inlet_deploy::stacks::{Event, Member, StackState};
use inlet_deploy::templates::{self, Resource, Shape};
use inlet_deploy::{Bucket, DeployError};

use super::progress::Progress;
use super::target::{Place, carried};
use super::{failed, question};
use crate::cli::deploy::DestroyArgs;
use crate::report::{self, Hinted};

/// A stack that is to go.
struct Going {
    name: String,
    state: StackState,
    members: Vec<Member>,
    resources: Vec<Resource>,
}

/// Removes an environment.
pub(super) async fn run(args: &DestroyArgs) -> anyhow::Result<()> {
    let shape = Shape::from(args.environment.shape);
    let name = &args.environment.env;
    let place = Place::open(&args.look).await?;
    let stack = format!("inlet-{name}-{}", shape.word());
    let mut going = Vec::new();
    let mut stacks =
        vec![(stack.clone(), shape.root()), (format!("{stack}-migration"), "migration.yaml")];
    if shape == Shape::Containers {
        stacks.push((format!("inlet-{name}-registry"), "modules/ecr.yaml"));
    }
    if args.with_bootstrap {
        stacks.push((BOOTSTRAP.into(), "bootstrap.yaml"));
    }
    for (name, file) in stacks {
        going.extend(look(&place, name, file).await?);
    }
    let ours = Ours::of(args, shape, &stack);
    if going.is_empty() {
        report::say(format_args!("there is no stack {stack}"));
    }
    for one in &going {
        one.list(args.with_data)?;
    }
    // What an earlier removal kept is no part of a stack any more.
    let kept = if args.with_data { ours.tagged(&place).await } else { Remains::default() };
    let is_member = |one: &&Remain| {
        let mut members = going.iter().flat_map(|stack| &stack.members);
        members.any(|member| member.physical_id == one.name)
    };
    for one in kept.found.iter().filter(|one| !is_member(one)) {
        report::data(format_args!("  remove  {} {}", one.kind.word(), one.name))?;
    }
    if !going.is_empty() || !kept.found.is_empty() {
        agree(args, name).await?;
    }
    for one in &going {
        one.remove(&place).await?;
    }
    if args.with_data {
        remove_data(&place, &ours).await?;
    }
    if args.prove { prove(&place, &ours, args.with_data).await } else { Ok(()) }
}

/// Asks for the environment's name.
async fn agree(args: &DestroyArgs, name: &str) -> anyhow::Result<()> {
    let answer = match &args.yes_delete {
        Some(given) => Some(given.clone()),
        None => question::ask(&format!("to remove it, type its name ({name}): ")).await?,
    };
    match answer.as_deref() {
        Some(given) if given == name => Ok(()),
        Some(other) => {
            let hint = format!("the environment's name is {name}");
            Err(Hinted::new(format!("{other:?} is not its name; nothing was removed"), hint).into())
        }
        None => {
            let hint = format!("give --yes-delete {name} to go on without asking");
            Err(Hinted::new("nobody answers", hint).into())
        }
    }
}

/// The stack with what is in it; `None` where there is none.
async fn look(place: &Place, name: String, file: &str) -> anyhow::Result<Option<Going>> {
    let Some(state) = place.stacks.state(&name).await.map_err(failed)? else { return Ok(None) };
    let members = place.stacks.members(&name).await.map_err(failed)?;
    let parameters: BTreeMap<String, String> = state.parameters.iter().cloned().collect();
    let region = place.account.region();
    let resources = templates::resources(carried(file)?, &parameters, region)?;
    Ok(Some(Going { name, state, members, resources }))
}

impl Going {
    fn resource(&self, member: &Member) -> Option<&Resource> {
        self.resources.iter().find(|one| one.path == member.path)
    }

    fn stays(&self, member: &Member) -> bool {
        self.resource(member).is_some_and(|one| one.deletion_policy == "Retain")
    }

    /// Says what goes and what stays, and why.
    fn list(&self, with_data: bool) -> anyhow::Result<()> {
        report::data(format_args!("{} ({})", self.name, self.state.status))?;
        for member in self.members.iter().filter(|one| one.kind != "AWS::CloudFormation::Stack") {
            let resource = self.resource(member);
            let sentence = resource.map_or("", |one| one.sentence.as_str());
            let policy = resource.map_or("Delete", |one| one.deletion_policy.as_str());
            let word = match policy {
                "Retain" if !with_data => "keep",
                "Snapshot" => "snapshot",
                _ => "remove",
            };
            let why = match word {
                "keep" => format!(" - {}; --with-data removes it", why_kept(member)),
                "snapshot" if with_data => " - and the snapshot is removed".to_owned(),
                "snapshot" => " - and a snapshot is kept: it holds documents".to_owned(),
                _ => String::new(),
            };
            report::data(format_args!(
                "  {word:<8}{} ({}): {sentence}{why}",
                member.path, member.kind
            ))?;
        }
        Ok(())
    }

    /// Removes the stack: first what refuses to be removed is allowed to, and what must be empty
    /// is emptied.
    async fn remove(&self, place: &Place) -> anyhow::Result<()> {
        let mut progress = Progress::new(&self.resources);
        let mut see = |event: &Event| progress.show(event);
        let is_guarded = self.state.parameter("DeletionProtection") == Some("true");
        if is_guarded && self.state.stands() && self.state.status.ends_with("COMPLETE") {
            report::say("deletion protection is taken off first");
            let stacks = &place.stacks;
            stacks
                .set_parameter(&self.state, "DeletionProtection", "false", &mut see)
                .await
                .map_err(failed)?;
        }
        for member in &self.members {
            if member.kind == "AWS::S3::Bucket" && !self.stays(member) {
                let emptied = Bucket::new(&place.account, &member.physical_id).empty().await;
                let count = emptied.map_err(failed)?;
                report::say(format_args!("emptied {} of {count}", member.physical_id));
            }
        }
        place.stacks.remove(&self.name, &mut see).await.map_err(failed)
    }
}

fn why_kept(member: &Member) -> &'static str {
    match member.kind.as_str() {
        "AWS::SecretsManager::Secret" => Kind::Secret.kept_because(),
        "AWS::KMS::Key" => Kind::Key.kept_because(),
        "AWS::Logs::LogGroup" => Kind::Log.kept_because(),
        "AWS::S3::Bucket" if member.path.ends_with("LogBucket") => Kind::Log.kept_because(),
        "AWS::S3::Bucket" if member.path == "Artifacts" => Some("releases can be gone back to"),
        "AWS::IAM::OIDCProvider" => Some("other roles of this account may use it"),
        "AWS::IAM::Role" | "AWS::ApiGateway::Account" => Some("other APIs of this account need it"),
        _ => Kind::Table.kept_because(),
    }
    .unwrap_or_default()
}

/// How what belongs to an environment is known.
struct Ours {
    prefixes: Vec<String>,
    tags: BTreeMap<String, String>,
    bootstrap: bool,
}

impl Ours {
    fn of(args: &DestroyArgs, shape: Shape, stack: &str) -> Self {
        let name = &args.environment.env;
        let mut prefixes = vec![format!("{stack}-")];
        if shape == Shape::Containers {
            prefixes.push(format!("inlet-{name}-registry-"));
        }
        if args.with_bootstrap {
            prefixes.push(format!("{BOOTSTRAP}-"));
        }
        let tags = [("Project", "inlet"), ("Environment", name), ("Shape", shape.word())];
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Self { prefixes, tags, bootstrap: args.with_bootstrap }
    }

    /// What is left of it, by names and by tags.
    async fn find(&self, place: &Place) -> Remains {
        let mut remains = Remains::find(&place.account, &self.prefixes, &self.tags).await;
        if self.bootstrap {
            remains.found.extend(self.of_bootstrap(place).await.found);
        }
        remains
    }

    /// What has its tags: that alone is removed, however names begin.
    async fn tagged(&self, place: &Place) -> Remains {
        let mut remains = Remains::tagged(&place.account, &self.tags).await;
        if self.bootstrap {
            let more = self.of_bootstrap(place).await;
            remains.found.extend(more.found);
            remains.unasked.extend(more.unasked);
        }
        remains
    }

    async fn of_bootstrap(&self, place: &Place) -> Remains {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let tags = BOOTSTRAP_TAGS.map(owned).into();
        Remains::tagged(&place.account, &tags).await
    }
}

/// Removes what holds documents, and the keys last: what they sealed has to be gone.
async fn remove_data(place: &Place, ours: &Ours) -> anyhow::Result<()> {
    let Remains { found, unasked } = ours.tagged(place).await;
    if let Some(error) = unasked.into_iter().next() {
        return Err(failed(error));
    }
    let (keys, others): (Vec<Remain>, Vec<Remain>) =
        found.into_iter().partition(|one| one.kind == Kind::Key);
    for one in others.iter().chain(&keys) {
        if one.kind.kept_because().is_some() {
            one.remove(&place.account).await.map_err(failed)?;
            report::say(format_args!("removed {} {}", one.kind.word(), one.name));
        }
    }
    if !keys.is_empty() {
        report::say("the keys are gone in seven days and cost nothing until then");
    }
    Ok(())
}

/// Asks the services what is left and says what it costs. What is not kept on purpose is an error.
async fn prove(place: &Place, ours: &Ours, with_data: bool) -> anyhow::Result<()> {
    let Remains { found, unasked } = ours.find(place).await;
    let mut unwanted = 0;
    for one in &found {
        let kept = one.kind.kept_because().filter(|_| !with_data);
        unwanted += usize::from(kept.is_none());
        report::data(format_args!(
            "{:<8}{} {}: {}; it costs {}",
            if kept.is_some() { "kept" } else { "LEFT" },
            one.kind.word(),
            one.name,
            kept.unwrap_or("nobody wanted it to stay"),
            one.kind.costs()
        ))?;
    }
    for error in &unasked {
        report::data(format_args!("NOT ASKED {error}"))?;
    }
    if !ours.bootstrap && Foundation::find(&place.stacks).await.map_err(failed)?.is_some() {
        report::data(format_args!(
            "kept    stack {BOOTSTRAP}: other environments need it; its bucket and key cost about \
             $1 a month; --with-bootstrap removes it"
        ))?;
    }
    match (unwanted, unasked.len()) {
        (0, 0) if found.is_empty() => report::data("nothing that costs money is left"),
        (0, 0) => report::data(format_args!(
            "nothing is left but the {} that were kept on purpose; --with-data removes them",
            found.len()
        )),
        (0, _) => Err(unproven(&unasked)),
        (left, _) => {
            let hint = "run the same command again, or remove it by hand";
            Err(Hinted::new(format!("{left} things are left that cost money"), hint).into())
        }
    }
}

fn unproven(unasked: &[DeployError]) -> anyhow::Error {
    let hint = "ask as somebody who may read these lists, an administrator";
    Hinted::new(format!("{} services could not be asked: nothing is proven", unasked.len()), hint)
        .into()
}
