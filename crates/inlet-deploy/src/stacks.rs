//! Stacks of CloudFormation: seen, planned, changed and removed.
//!
//! A run that was cancelled or failed can simply be run again: what is in the way is dealt with.
//!
//! | the stack is | what is done |
//! | --- | --- |
//! | not there | a change set of the type `CREATE` |
//! | in progress | it is waited for, its events shown |
//! | `REVIEW_IN_PROGRESS` | left-over change sets are deleted, then as if it were not there |
//! | `ROLLBACK_COMPLETE`, `ROLLBACK_FAILED`, `CREATE_FAILED`, `DELETE_FAILED` | it is deleted, then made |
//! | `UPDATE_ROLLBACK_FAILED` | its roll-back is continued, then it is updated |
//! | at rest | a change set of the type `UPDATE` |

mod events;
mod members;

use std::time::{Duration, Instant};

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudformation::types::{
    Capability, ChangeSetStatus, ChangeSetType, Parameter, Stack, Tag,
};

pub use events::{Event, EventState};
pub use members::{Drift, Member};

use crate::account::Account;
use crate::error::DeployError;
use crate::plan::{self, Plan};

/// How long a stack may take to come to rest: a database in two zones takes half an hour.
const REST_MAX: Duration = Duration::from_secs(2 * 3_600);
/// How often a change set that can be made a little later is tried before it is given up.
const PASSING_LOOKS_MAX: usize = 60;
/// The name of the one change set that there is at a time.
const CHANGE_SET: &str = "inlet";

/// What a stack is to become.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The stack's name.
    pub stack: String,
    /// The text of its template, at most 51,200 bytes.
    pub template: String,
    /// The values of its parameters.
    pub parameters: Vec<(String, String)>,
    /// What is put on each of its resources that can have tags.
    pub tags: Vec<(String, String)>,
    /// The role that CloudFormation takes on; the caller's own rights where there is none.
    pub role_arn: Option<String>,
}

/// A change set that can be applied.
#[derive(Debug)]
pub struct Planned {
    /// What it would change.
    pub plan: Plan,
    stack: String,
    change_set: String,
    /// Whether the stack is there only for this change set.
    only_for_this: bool,
}

/// What is known of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackState {
    /// Its id.
    pub id: String,
    /// Its status, as `UPDATE_COMPLETE`.
    pub status: String,
    /// Its outputs.
    pub outputs: Vec<(String, String)>,
    /// The values of its parameters.
    pub parameters: Vec<(String, String)>,
}

impl StackState {
    /// The output of that name.
    pub fn output(&self, name: &str) -> Option<String> {
        self.outputs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    /// The value of the parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is a stack that only a change set of the type `UPDATE` can change; one that is
    /// in the way is removed first, and then made anew.
    pub fn stands(&self) -> bool {
        !matches!(
            self.status.as_str(),
            "REVIEW_IN_PROGRESS"
                | "ROLLBACK_COMPLETE"
                | "ROLLBACK_FAILED"
                | "CREATE_FAILED"
                | "DELETE_FAILED"
        )
    }
}

/// The stacks of an account in a region.
#[derive(Debug, Clone)]
pub struct Stacks {
    client: Client,
    look_every: Duration,
}

impl Stacks {
    /// The stacks of `account`, looked at every `look_every` while something is in progress; a
    /// second or two is kind to the service's limits.
    pub fn new(account: &Account, look_every: Duration) -> Self {
        Self { client: Client::new(&account.config), look_every }
    }

    /// How often a stack is looked at while something is in progress.
    pub fn look_every(&self) -> Duration {
        self.look_every
    }

    /// The stack with that name or id; `None` where there is none.
    pub async fn state(&self, stack: &str) -> Result<Option<StackState>, DeployError> {
        match self.describe(stack).await {
            Ok(found) => Ok(Some(StackState {
                id: found.stack_id().unwrap_or_default().into(),
                status: status(&found),
                outputs: found
                    .outputs()
                    .iter()
                    .map(|one| (text(one.output_key()), text(one.output_value())))
                    .collect(),
                parameters: found
                    .parameters()
                    .iter()
                    .map(|one| (text(one.parameter_key()), text(one.parameter_value())))
                    .collect(),
            })),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a change set. Where the stack is in the way it is dealt with first, and `see` is
    /// shown how. `None` where there is nothing to change.
    pub async fn plan(
        &self,
        wanted: &Wanted,
        see: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<Option<Planned>, DeployError> {
        let kind = self.make_ready(&wanted.stack, see).await?;
        let only_for_this = kind == ChangeSetType::Create;
        let failed = |error| DeployError::call("plan the stack", &wanted.stack, &error);
        let mut call = self
            .client
            .create_change_set()
            .stack_name(&wanted.stack)
            .change_set_name(CHANGE_SET)
            .change_set_type(kind)
            .include_nested_stacks(true)
            .template_body(&wanted.template)
            .capabilities(Capability::CapabilityIam)
            .capabilities(Capability::CapabilityNamedIam)
            .set_role_arn(wanted.role_arn.clone());
        for (key, value) in &wanted.parameters {
            call = call
                .parameters(Parameter::builder().parameter_key(key).parameter_value(value).build());
        }
        for (key, value) in &wanted.tags {
            call = call.tags(Tag::builder().key(key).value(value).build());
        }
        let mut looks = 0;
        let made = loop {
            match call.clone().send().await {
                Err(error) if is_passing(&error) && looks < PASSING_LOOKS_MAX => {
                    looks += 1;
                    tokio::time::sleep(self.look_every).await;
                }
                made => break made.map_err(failed)?,
            }
        };
        let change_set = text(made.id());
        let plan = match self.planned(&wanted.stack, &change_set).await? {
            Some(plan) => plan,
            None => {
                self.forget(&wanted.stack, &change_set).await?;
                return Ok(None);
            }
        };
        Ok(Some(Planned { plan, stack: wanted.stack.clone(), change_set, only_for_this }))
    }

    /// Throws a change set away, and the stack with it that was made for it: nothing is left.
    pub async fn discard(&self, planned: Planned) -> Result<(), DeployError> {
        self.forget(&planned.stack, &planned.change_set).await?;
        if planned.only_for_this {
            self.delete_call(&planned.stack, &[]).await?;
        }
        Ok(())
    }

    /// Applies a change set, shows `see` each event, and gives the stack once it is complete.
    pub async fn apply(
        &self,
        planned: Planned,
        see: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<StackState, DeployError> {
        let mut events = events::Events::from_now(&self.client, &planned.stack).await?;
        self.client
            .execute_change_set()
            .stack_name(&planned.stack)
            .change_set_name(&planned.change_set)
            .send()
            .await
            .map_err(|error| DeployError::call("change the stack", &planned.stack, &error))?;
        let status = self.rest(&planned.stack, &mut events, see).await?;
        if !matches!(status.as_str(), "CREATE_COMPLETE" | "UPDATE_COMPLETE") {
            let first = events.first_failure().cloned();
            return Err(DeployError::Ended { stack: planned.stack, status, first });
        }
        self.state(&planned.stack).await?.ok_or_else(|| DeployError::Ended {
            stack: planned.stack,
            status: "DELETE_COMPLETE".into(),
            first: None,
        })
    }

    /// Removes a stack; what its templates retain stays. A stack that is not there is no error.
    pub async fn remove(
        &self,
        stack: &str,
        see: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<(), DeployError> {
        let Some(state) = self.state(stack).await? else { return Ok(()) };
        if state.status.ends_with("IN_PROGRESS") && state.status != "REVIEW_IN_PROGRESS" {
            let mut events = events::Events::from_now(&self.client, &state.id).await?;
            self.rest(&state.id, &mut events, see).await?;
        }
        let mut events = events::Events::from_now(&self.client, &state.id).await?;
        self.delete_call(stack, &[]).await?;
        let status = self.rest(&state.id, &mut events, see).await?;
        if status == "DELETE_COMPLETE" {
            return Ok(());
        }
        let first = events.first_failure().cloned();
        Err(DeployError::Ended { stack: stack.into(), status, first })
    }

    /// Which type of change set the stack can take, once what is in its way was dealt with.
    async fn make_ready(
        &self,
        stack: &str,
        see: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<ChangeSetType, DeployError> {
        let begun = Instant::now();
        loop {
            let Some(state) = self.state(stack).await? else { return Ok(ChangeSetType::Create) };
            if begun.elapsed() > REST_MAX {
                return Err(timed_out(stack, &state.status));
            }
            match state.status.as_str() {
                "REVIEW_IN_PROGRESS" => {
                    self.forget(stack, CHANGE_SET).await?;
                    return Ok(ChangeSetType::Create);
                }
                "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "CREATE_FAILED" | "DELETE_FAILED" => {
                    see(&Event::note(stack, &state.status, "it is removed and made anew"));
                    self.clear(&state, see).await?;
                }
                "UPDATE_ROLLBACK_FAILED" => {
                    see(&Event::note(stack, &state.status, "its roll-back is continued"));
                    let mut events = events::Events::from_now(&self.client, &state.id).await?;
                    self.client
                        .continue_update_rollback()
                        .stack_name(stack)
                        .send()
                        .await
                        .map_err(|error| DeployError::call("roll back", stack, &error))?;
                    let status = self.rest(&state.id, &mut events, see).await?;
                    if status == "UPDATE_ROLLBACK_FAILED" {
                        let first = events.first_failure().cloned();
                        return Err(DeployError::Ended { stack: stack.into(), status, first });
                    }
                }
                status if status.ends_with("IN_PROGRESS") => {
                    see(&Event::note(stack, status, "another run is at it; it is waited for"));
                    let mut events = events::Events::from_now(&self.client, &state.id).await?;
                    self.rest(&state.id, &mut events, see).await?;
                }
                _ => {
                    self.forget(stack, CHANGE_SET).await?;
                    return Ok(ChangeSetType::Update);
                }
            }
        }
    }

    /// Deletes a stack that can't be updated; what can't be deleted is let go of, and told.
    async fn clear(
        &self,
        state: &StackState,
        see: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<(), DeployError> {
        let mut events = events::Events::from_now(&self.client, &state.id).await?;
        self.delete_call(&state.id, &[]).await?;
        if self.rest(&state.id, &mut events, see).await? == "DELETE_COMPLETE" {
            return Ok(());
        }
        let stuck = self.stuck(&state.id).await?;
        see(&Event::note(&state.id, "DELETE_FAILED", &format!("let go of: {}", stuck.join(", "))));
        let mut events = events::Events::from_now(&self.client, &state.id).await?;
        self.delete_call(&state.id, &stuck).await?;
        match self.rest(&state.id, &mut events, see).await? {
            status if status == "DELETE_COMPLETE" => Ok(()),
            status => {
                let first = events.first_failure().cloned();
                Err(DeployError::Ended { stack: state.id.clone(), status, first })
            }
        }
    }

    /// The resources that could not be deleted.
    async fn stuck(&self, stack: &str) -> Result<Vec<String>, DeployError> {
        let said = self
            .client
            .describe_stack_resources()
            .stack_name(stack)
            .send()
            .await
            .map_err(|error| DeployError::call("list the resources of", stack, &error))?;
        let failed = said.stack_resources().iter().filter(|one| {
            one.resource_status().is_some_and(|status| status.as_str() == "DELETE_FAILED")
        });
        Ok(failed.map(|one| text(one.logical_resource_id())).collect())
    }

    async fn delete_call(&self, stack: &str, retain: &[String]) -> Result<(), DeployError> {
        let retain = (!retain.is_empty()).then(|| retain.to_vec());
        self.client
            .delete_stack()
            .stack_name(stack)
            .set_retain_resources(retain)
            .send()
            .await
            .map(drop)
            .map_err(|error| DeployError::call("remove the stack", stack, &error))
    }

    async fn forget(&self, stack: &str, change_set: &str) -> Result<(), DeployError> {
        self.client
            .delete_change_set()
            .stack_name(stack)
            .change_set_name(change_set)
            .send()
            .await
            .map(drop)
            .map_err(|error| DeployError::call("delete a change set of", stack, &error))
    }

    /// Waits until the change set is made, and reads it with those of its nested stacks.
    async fn planned(&self, stack: &str, id: &str) -> Result<Option<Plan>, DeployError> {
        let mut plan = Plan::default();
        let mut open = vec![(String::new(), id.to_owned())];
        while let Some((under, id)) = open.pop() {
            let mut token = None;
            loop {
                let said = self
                    .client
                    .describe_change_set()
                    // By its ARN alone: those of nested stacks are not of this stack.
                    .change_set_name(&id)
                    .set_next_token(token.clone())
                    .send()
                    .await
                    .map_err(|error| DeployError::call("read the plan of", stack, &error))?;
                match said.status() {
                    Some(ChangeSetStatus::CreatePending | ChangeSetStatus::CreateInProgress) => {
                        tokio::time::sleep(self.look_every).await;
                        continue;
                    }
                    Some(ChangeSetStatus::Failed) => {
                        let why = text(said.status_reason());
                        // A change set without a change is one that failed, by these words only.
                        if why.contains("didn't contain changes") || why.contains("No updates") {
                            break;
                        }
                        let attempted = "plan the stack";
                        let subject = stack.to_owned();
                        return Err(DeployError::Call { attempted, subject, code: None, why });
                    }
                    _ => {}
                }
                for change in said.changes().iter().filter_map(|one| one.resource_change()) {
                    let found = plan::change(&under, change, None);
                    match change.change_set_id() {
                        Some(nested) => open.push((found.path.clone(), nested.to_owned())),
                        None => plan.changes.push(found),
                    }
                }
                token = said.next_token().map(str::to_owned);
                if token.is_none() {
                    break;
                }
            }
        }
        Ok((!plan.is_empty()).then_some(plan))
    }

    /// Waits until the stack is at rest, showing its events and those of its nested stacks.
    async fn rest(
        &self,
        stack: &str,
        events: &mut events::Events,
        see: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<String, DeployError> {
        let begun = Instant::now();
        loop {
            // The status first: all events of a stack at rest are there to be read.
            let status = match self.describe(stack).await {
                Ok(found) => status(&found),
                Err(error) if error.is_missing() => "DELETE_COMPLETE".into(),
                Err(error) => return Err(error),
            };
            events.look(&self.client, see).await?;
            if !status.ends_with("IN_PROGRESS") {
                return Ok(status);
            }
            if begun.elapsed() > REST_MAX {
                return Err(timed_out(stack, &status));
            }
            tokio::time::sleep(self.look_every).await;
        }
    }

    async fn describe(&self, stack: &str) -> Result<Stack, DeployError> {
        let said = self
            .client
            .describe_stacks()
            .stack_name(stack)
            .send()
            .await
            .map_err(|error| DeployError::call("look at the stack", stack, &error))?;
        said.stacks().first().cloned().ok_or_else(|| DeployError::Call {
            attempted: "look at the stack",
            subject: stack.into(),
            code: None,
            why: format!("{stack} does not exist"),
        })
    }
}

/// Whether a change set can be made a little later: one of that name is being deleted, which nested
/// stacks make slow, or the role is so new that not every part of AWS knows it.
fn is_passing<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.code() == Some("AlreadyExistsException")
        || error.message().is_some_and(|message| message.contains("cannot be assumed"))
}

fn timed_out(stack: &str, status: &str) -> DeployError {
    let minutes = REST_MAX.as_secs() / 60;
    DeployError::TimedOut { stack: stack.into(), status: status.into(), minutes }
}

fn status(stack: &Stack) -> String {
    stack.stack_status().map_or_else(String::new, |status| status.as_str().to_owned())
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}
