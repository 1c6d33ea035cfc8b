//! What is in a stack and in those nested in it, and whether somebody changed it by hand.

use std::time::Instant;

use aws_sdk_cloudformation::types::{
    ChangeSetType, Parameter, StackDriftDetectionStatus, StackResourceDriftStatus,
};

use super::{REST_MAX, StackState, Stacks, text, timed_out};
use crate::error::DeployError;
use crate::stacks::Event;

/// The type of a nested stack.
const NESTED: &str = "AWS::CloudFormation::Stack";

/// A resource of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its logical id, behind those of its nested stacks, with `/` between.
    pub path: String,
    /// Its type.
    pub kind: String,
    /// What the service calls it.
    pub physical_id: String,
}

/// A property that somebody changed by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The resource's path.
    pub path: String,
    /// The property, as `/VisibilityTimeout`; empty where the resource is gone.
    pub property: String,
    /// What the stack made it.
    pub expected: String,
    /// What it is.
    pub actual: String,
}

impl Stacks {
    /// Every resource of a stack and of those nested in it; none where there is no stack.
    pub async fn members(&self, stack: &str) -> Result<Vec<Member>, DeployError> {
        let mut members = Vec::new();
        let mut open = vec![(String::new(), stack.to_owned())];
        while let Some((under, stack)) = open.pop() {
            let said = self.client.describe_stack_resources().stack_name(&stack).send().await;
            let said = match said {
                Ok(said) => said,
                Err(error) => {
                    let error = DeployError::call("list the resources of", stack, &error);
                    if error.is_missing() {
                        continue;
                    }
                    return Err(error);
                }
            };
            for one in said.stack_resources() {
                let is_gone =
                    one.resource_status().is_some_and(|it| it.as_str() == "DELETE_COMPLETE");
                let physical_id = text(one.physical_resource_id());
                if is_gone || physical_id.is_empty() {
                    continue;
                }
                let path = format!("{under}{}", text(one.logical_resource_id()));
                let kind = text(one.resource_type());
                if kind == NESTED {
                    open.push((format!("{path}/"), physical_id.clone()));
                }
                members.push(Member { path, kind, physical_id });
            }
        }
        members.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(members)
    }

    /// What somebody changed by hand in a stack and those nested in it.
    pub async fn drift(&self, stack: &str) -> Result<Vec<Drift>, DeployError> {
        let mut open = vec![(String::new(), stack.to_owned())];
        for member in self.members(stack).await?.into_iter().filter(|one| one.kind == NESTED) {
            open.push((format!("{}/", member.path), member.physical_id));
        }
        let mut drifts = Vec::new();
        for (under, stack) in open {
            self.detect(&stack).await?;
            let said = self
                .client
                .describe_stack_resource_drifts()
                .stack_name(&stack)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::Modified)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::Deleted)
                .send()
                .await
                .map_err(|error| DeployError::call("read the drift of", &stack, &error))?;
            for one in said.stack_resource_drifts() {
                let path = format!("{under}{}", text(one.logical_resource_id()));
                if one.stack_resource_drift_status() == Some(&StackResourceDriftStatus::Deleted) {
                    let (expected, actual) = ("there".into(), "gone".into());
                    drifts.push(Drift { path, property: String::new(), expected, actual });
                    continue;
                }
                drifts.extend(one.property_differences().iter().map(|property| Drift {
                    path: path.clone(),
                    property: text(property.property_path()),
                    expected: text(property.expected_value()),
                    actual: text(property.actual_value()),
                }));
            }
        }
        Ok(drifts)
    }

    async fn detect(&self, stack: &str) -> Result<(), DeployError> {
        let failed = |error| DeployError::call("look for drift in", stack, &error);
        let begun = self.client.detect_stack_drift().stack_name(stack).send().await;
        let detection = text(begun.map_err(failed)?.stack_drift_detection_id());
        let since = Instant::now();
        loop {
            let said = self
                .client
                .describe_stack_drift_detection_status()
                .stack_drift_detection_id(&detection)
                .send()
                .await
                .map_err(|error| DeployError::call("look for drift in", stack, &error))?;
            if said.detection_status() != Some(&StackDriftDetectionStatus::DetectionInProgress) {
                return Ok(());
            }
            if since.elapsed() > REST_MAX {
                return Err(timed_out(stack, "drift detection"));
            }
            tokio::time::sleep(self.look_every).await;
        }
    }

    /// Gives one parameter of a stack another value and leaves all else as it stands.
    pub async fn set_parameter(
        &self,
        state: &StackState,
        name: &str,
        value: &str,
        see: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<(), DeployError> {
        let mut call = self
            .client
            .create_change_set()
            .stack_name(&state.id)
            .change_set_name(super::CHANGE_SET)
            .change_set_type(ChangeSetType::Update)
            .use_previous_template(true)
            .include_nested_stacks(true)
            .capabilities(aws_sdk_cloudformation::types::Capability::CapabilityNamedIam);
        for (key, _) in &state.parameters {
            let parameter = Parameter::builder().parameter_key(key);
            call = call.parameters(if key == name {
                parameter.parameter_value(value).build()
            } else {
                parameter.use_previous_value(true).build()
            });
        }
        let made = call
            .send()
            .await
            .map_err(|error| DeployError::call("change a parameter of", &state.id, &error))?;
        let change_set = text(made.id());
        let (stack, only_for_this) = (state.id.clone(), false);
        match self.planned(&stack, &change_set).await? {
            Some(plan) => {
                let planned = super::Planned { plan, stack, change_set, only_for_this };
                self.apply(planned, see).await.map(drop)
            }
            None => self.forget(&stack, &change_set).await,
        }
    }
}
