//! `inlet status --env NAME`: how an environment stands on AWS.

use std::collections::BTreeMap;

use inlet_deploy::services::Task;
use inlet_deploy::stacks::StackState;
use inlet_deploy::templates::Shape;
use serde_json::json;

use super::failed;
use super::target::Place;
use crate::cli::StatusArgs;
use crate::cli::deploy::LookArgs;
use crate::report::{self, Hinted};

/// What a status says.
struct Status {
    stack: StackState,
    /// What somebody changed by hand, a line each.
    drift: Vec<String>,
    /// Alarms by their states.
    alarms: BTreeMap<String, Vec<String>>,
    /// Tasks, by service and zone; none in the serverless shape.
    tasks: BTreeMap<(String, String), Vec<Task>>,
    /// Waiting, in flight, and dead letters; `None` where the stack has no queue.
    queue: Option<(u64, u64, Option<u64>)>,
}

/// Prints it.
pub(super) async fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let name = args.env.as_deref().unwrap_or_default();
    let place = Place::open(&LookArgs { look_ms: args.look.look_ms }).await?;
    let mut found = None;
    let shapes = args.shape.map_or(Shape::ALL.to_vec(), |one| vec![Shape::from(one)]);
    for shape in shapes {
        let stack = format!("inlet-{name}-{}", shape.word());
        if let Some(state) = place.stacks.state(&stack).await.map_err(failed)? {
            found = Some((stack, state));
            break;
        }
    }
    let (name, stack) = found.ok_or_else(|| {
        let hint = format!("`inlet deploy --env {name}` makes it");
        Hinted::new(format!("there is no environment {name} in {}", place.account.region()), hint)
    })?;
    let status = Status::ask(&place, &name, stack).await?;
    if args.remote.json.json { status.json(&name) } else { status.print(&name) }
}

impl Status {
    async fn ask(place: &Place, name: &str, stack: StackState) -> anyhow::Result<Self> {
        let mut drift = Vec::new();
        // What is changing has no state to have drifted from.
        if stack.status.ends_with("_COMPLETE") && stack.stands() {
            for one in place.stacks.drift(name).await.map_err(failed)? {
                let (path, property) = (one.path, one.property);
                drift.push(format!("{path}{property}: {} -> {}", one.expected, one.actual));
            }
        }
        let mut alarms: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for alarm in place.account.alarms(name).await.map_err(failed)? {
            alarms.entry(alarm.state).or_default().push(alarm.name);
        }
        let mut tasks: BTreeMap<(String, String), Vec<Task>> = BTreeMap::new();
        if let Some(cluster) = stack.output("ClusterName") {
            for task in place.account.tasks(&cluster).await.map_err(failed)? {
                tasks.entry((task.service.clone(), task.zone.clone())).or_default().push(task);
            }
        }
        let mut queue = None;
        if let Some(url) = stack.output("QueueUrl") {
            let depth = place.account.queue_depth(&url).await.map_err(failed)?;
            let dead = match &depth.dead_letters_url {
                Some(url) => Some(place.account.queue_depth(url).await.map_err(failed)?.waiting),
                None => None,
            };
            queue = Some((depth.waiting, depth.in_flight, dead));
        }
        Ok(Self { stack, drift, alarms, tasks, queue })
    }

    fn print(&self, name: &str) -> anyhow::Result<()> {
        report::data(format_args!("{name} is in {}", self.stack.status))?;
        for (name, value) in &self.stack.outputs {
            report::data(format_args!("  {name:<20} {value}"))?;
        }
        match self.drift.len() {
            0 => report::data("drift: none, it is as the templates say")?,
            count => report::data(format_args!("drift: {count} changed by hand"))?,
        }
        for line in &self.drift {
            report::data(format_args!("  {line}"))?;
        }
        let counts: Vec<String> =
            self.alarms.iter().map(|(state, names)| format!("{} {state}", names.len())).collect();
        report::data(format_args!("alarms: {}", or_none(&counts)))?;
        for name in self.alarms.get("ALARM").into_iter().flatten() {
            report::data(format_args!("  rings: {name}"))?;
        }
        if self.stack.output("ClusterName").is_some() {
            report::data("instances:")?;
            for ((service, zone), tasks) in &self.tasks {
                let running = tasks.iter().filter(|task| task.status == "RUNNING").count();
                let healthy = tasks.iter().filter(|task| task.health == "HEALTHY").count();
                report::data(format_args!(
                    "  {zone}  {service}: {running} running of {}, {healthy} healthy",
                    tasks.len()
                ))?;
            }
            if self.tasks.is_empty() {
                report::data("  none")?;
            }
        }
        if let Some((waiting, in_flight, dead)) = self.queue {
            let dead = dead.map_or_else(|| "-".to_owned(), |count| count.to_string());
            report::data(format_args!(
                "queue: {waiting} waiting, {in_flight} in flight, {dead} dead letters"
            ))?;
        }
        Ok(())
    }

    fn json(&self, name: &str) -> anyhow::Result<()> {
        let outputs: BTreeMap<&String, &String> =
            self.stack.outputs.iter().map(|(name, value)| (name, value)).collect();
        let tasks: Vec<_> = self
            .tasks
            .iter()
            .map(|((service, zone), tasks)| {
                let running = tasks.iter().filter(|task| task.status == "RUNNING").count();
                json!({ "service": service, "zone": zone, "tasks": tasks.len(), "running": running })
            })
            .collect();
        let queue = self.queue.map(|(waiting, in_flight, dead)| {
            json!({ "waiting": waiting, "in_flight": in_flight, "dead_letters": dead })
        });
        report::data(json!({
            "stack": name, "status": self.stack.status, "outputs": outputs, "drift": self.drift,
            "alarms": self.alarms, "instances": tasks, "queue": queue,
        }))
    }
}

fn or_none(texts: &[String]) -> String {
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}
