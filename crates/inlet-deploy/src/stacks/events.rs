//! The events of a stack and of those nested in it, each once and in their order.

use std::collections::{BTreeMap, HashSet};

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::StackEvent;

use crate::error::{DeployError, FirstFailure};

/// The type of a nested stack.
const NESTED: &str = "AWS::CloudFormation::Stack";
/// The most pages of events that are read at one look, each of 100.
const PAGES_MAX: usize = 20;

/// How far a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventState {
    /// Work on it has begun.
    Begun,
    /// It is as it should be.
    Done,
    /// It failed.
    Failed,
    /// It was left as it is.
    Skipped,
}

/// Something that happened to a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its logical id, behind those of its nested stacks, with `/` between; empty for the stack.
    pub path: String,
    /// Its type.
    pub kind: String,
    /// Its status, as `CREATE_COMPLETE`.
    pub status: String,
    /// How far it is.
    pub state: EventState,
    /// Why, where the service says.
    pub reason: Option<String>,
    /// When, in milliseconds since 1970.
    pub moment_ms: i64,
}

impl Event {
    /// Something that we say ourselves of a stack.
    pub(super) fn note(stack: &str, status: &str, reason: &str) -> Self {
        Self {
            path: stack.into(),
            kind: NESTED.into(),
            status: status.into(),
            state: EventState::Begun,
            reason: Some(reason.into()),
            moment_ms: 0,
        }
    }
}

/// Reads events.
pub(super) struct Events {
    /// Each stack that is read, with the path of its resources.
    stacks: BTreeMap<String, String>,
    seen: HashSet<String>,
    first_failure: Option<FirstFailure>,
}

impl Events {
    /// From now on: what is there already has been seen.
    pub(super) async fn from_now(client: &Client, stack: &str) -> Result<Self, DeployError> {
        let stacks = BTreeMap::from([(stack.to_owned(), String::new())]);
        let mut events = Self { stacks, seen: HashSet::new(), first_failure: None };
        events.look(client, &mut |_| {}).await?;
        events.first_failure = None;
        Ok(events)
    }

    /// What failed first.
    pub(super) fn first_failure(&self) -> Option<&FirstFailure> {
        self.first_failure.as_ref()
    }

    /// Shows `see` what is new, oldest first.
    pub(super) async fn look(
        &mut self,
        client: &Client,
        see: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<(), DeployError> {
        let mut fresh: Vec<(i64, usize, Event)> = Vec::new();
        let mut read: HashSet<String> = HashSet::new();
        // A look finds nested stacks, whose events are read in the same look.
        while let Some((stack, under)) =
            self.stacks.iter().find(|(stack, _)| !read.contains(*stack))
        {
            let (stack, under) = (stack.clone(), under.clone());
            read.insert(stack.clone());
            for event in self.unseen(client, &stack).await? {
                self.find_nested(&event, &stack, &under);
                if let Some(event) = shown(&event, &stack, &under) {
                    fresh.push((event.moment_ms, fresh.len(), event));
                }
            }
        }
        fresh.sort_by_key(|(moment, order, _)| (*moment, *order));
        for (_, _, event) in fresh {
            self.note_failure(&event);
            see(&event);
        }
        Ok(())
    }

    /// The events of one stack that were not seen before, oldest first.
    async fn unseen(
        &mut self,
        client: &Client,
        stack: &str,
    ) -> Result<Vec<StackEvent>, DeployError> {
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            let said =
                client.describe_stack_events().stack_name(stack).set_next_token(token).send().await;
            let page = match said {
                Ok(page) => page,
                Err(error) => {
                    let error = DeployError::call("read the events of", stack, &error);
                    // A stack that is not there yet, or no more, has no events.
                    return if error.is_missing() { Ok(found) } else { Err(error) };
                }
            };
            let before = found.len();
            for event in page.stack_events() {
                if self.seen.insert(event.event_id().unwrap_or_default().to_owned()) {
                    found.push(event.clone());
                }
            }
            token = page.next_token().map(str::to_owned);
            // Newest come first: a page with something old is the last one that matters.
            if token.is_none() || found.len() - before < page.stack_events().len() {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    fn find_nested(&mut self, event: &StackEvent, stack: &str, under: &str) {
        let Some(id) = event.physical_resource_id() else { return };
        let is_other = id != stack && event.stack_id() != Some(id);
        if event.resource_type() == Some(NESTED) && is_other && !id.is_empty() {
            let path = join(under, event.logical_resource_id().unwrap_or_default());
            self.stacks.entry(id.to_owned()).or_insert(path);
        }
    }

    fn note_failure(&mut self, event: &Event) {
        let is_echo = event.reason.as_deref().is_none_or(|reason| {
            reason.contains("cancelled") || reason.starts_with("The following resource(s) failed")
        });
        let is_nested = event.kind == NESTED;
        if event.state == EventState::Failed && !is_echo && !is_nested {
            self.first_failure.get_or_insert_with(|| FirstFailure {
                resource: event.path.clone(),
                kind: event.kind.clone(),
                reason: event.reason.clone().unwrap_or_default(),
            });
        }
    }
}

fn shown(event: &StackEvent, stack: &str, under: &str) -> Option<Event> {
    let status = event.resource_status()?.as_str().to_owned();
    let id = event.physical_resource_id().unwrap_or_default();
    let is_the_stack = id == stack || event.stack_id() == Some(id);
    // Of a nested stack its parent tells; of the outermost its own events do.
    if is_the_stack && !under.is_empty() {
        return None;
    }
    let logical_id = event.logical_resource_id().unwrap_or_default();
    let moment_ms =
        event.timestamp().and_then(|moment| moment.to_millis().ok()).unwrap_or_default();
    Some(Event {
        path: if is_the_stack { String::new() } else { join(under, logical_id) },
        kind: event.resource_type().unwrap_or_default().to_owned(),
        state: if status.ends_with("FAILED") {
            EventState::Failed
        } else if status.ends_with("SKIPPED") {
            EventState::Skipped
        } else if status.ends_with("COMPLETE") {
            EventState::Done
        } else {
            EventState::Begun
        },
        status,
        reason: event.resource_status_reason().map(str::to_owned),
        moment_ms,
    })
}

fn join(under: &str, logical_id: &str) -> String {
    if under.is_empty() { logical_id.to_owned() } else { format!("{under}/{logical_id}") }
}
