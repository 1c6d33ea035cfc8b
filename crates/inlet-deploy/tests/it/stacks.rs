//! Stacks are planned, made, changed and removed, and whatever state one was left in is dealt
//! with. Against the double of CloudFormation, which fails where a test asks.

use std::sync::LazyLock;
use std::time::Duration;

use inlet_deploy::plan::Action;
use inlet_deploy::stacks::{Event, EventState, StackState, Stacks, Wanted};
use inlet_deploy::{Account, DeployError};
use inlet_testkit::server::{Server, ServerKind};
use serde_json::{Value, json};

static DOUBLE: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::CloudFormation));

const TEMPLATE: &str = r#"
AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  Seconds: {Type: Number, Default: 30}
  Table: {Type: String, Default: ""}
Conditions:
  HasTable: !Not [!Equals [!Ref Table, ""]]
Resources:
  Dead:
    Type: AWS::SQS::Queue
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
  Work:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: !Ref Seconds
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}
  Documents:
    Type: AWS::DynamoDB::Table
    Condition: HasTable
    DependsOn: Work
    Properties:
      TableName: !Ref Table
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
Outputs:
  Queue: {Value: !Ref Work}
"#;

/// A stack of its own for a test, and what was shown of it.
struct Trial {
    stacks: Stacks,
    name: String,
    events: Vec<Event>,
}

impl Trial {
    async fn new(name: &str) -> Self {
        Self::with_key(name, "test").await
    }

    async fn with_key(name: &str, key: &str) -> Self {
        let account = Account::at(&url(""), "eu-central-1", key).await;
        let stacks = Stacks::new(&account, Duration::from_millis(10));
        Self { stacks, name: name.into(), events: Vec::new() }
    }

    fn wanted(&self, parameters: &[(&str, &str)]) -> Wanted {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Wanted {
            stack: self.name.clone(),
            template: TEMPLATE.into(),
            parameters: parameters.iter().map(pair).collect(),
            tags: vec![("inlet:environment".into(), "test".into())],
            role_arn: None,
        }
    }

    async fn deploy(&mut self, parameters: &[(&str, &str)]) -> Result<StackState, DeployError> {
        let wanted = self.wanted(parameters);
        let events = &mut self.events;
        let see = &mut |event: &Event| events.push(event.clone());
        match self.stacks.plan(&wanted, see).await? {
            Some(planned) => self.stacks.apply(planned, see).await,
            None => Ok(self.stacks.state(&self.name).await?.unwrap()),
        }
    }

    async fn remove(&mut self) -> Result<(), DeployError> {
        let events = &mut self.events;
        self.stacks.remove(&self.name, &mut |event: &Event| events.push(event.clone())).await
    }

    async fn status(&self) -> Option<String> {
        self.stacks.state(&self.name).await.unwrap().map(|state| state.status)
    }

    fn seen(&self, path: &str, status: &str) -> bool {
        self.events.iter().any(|event| event.path == path && event.status == status)
    }
}

fn url(path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", DOUBLE.port())
}

/// Lets something fail, in stacks of that name only.
fn fault(stack: &str, mut said: Value) {
    said["stack"] = stack.into();
    ureq::post(url("/double/faults")).send(said.to_string()).unwrap();
}

#[tokio::test]
async fn a_stack_is_planned_made_changed_and_removed() {
    let mut trial = Trial::new("good").await;
    let quiet = &mut |_: &Event| {};
    let planned = trial.stacks.plan(&trial.wanted(&[]), quiet).await.unwrap().unwrap();
    let adds: Vec<&str> = planned.plan.changes.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(adds, ["Dead", "Work"]);
    assert!(planned.plan.changes.iter().all(|one| one.action == Action::Add));
    // A plan that is not applied leaves nothing.
    trial.stacks.discard(planned).await.unwrap();
    assert_eq!(trial.status().await, None);

    let made = trial.deploy(&[]).await.unwrap();
    assert_eq!(made.status, "CREATE_COMPLETE");
    assert!(made.outputs[0].1.contains("good-Work"));
    assert!(trial.seen("Work", "CREATE_IN_PROGRESS") && trial.seen("Work", "CREATE_COMPLETE"));
    let again = trial.stacks.plan(&trial.wanted(&[]), quiet).await.unwrap();
    assert!(again.is_none(), "there is nothing to change");

    let planned =
        trial.stacks.plan(&trial.wanted(&[("Seconds", "60")]), quiet).await.unwrap().unwrap();
    let text = planned.plan.text(false);
    assert!(text.contains("VisibilityTimeout: 30 -> 60"), "{text}");
    assert!(text.contains("1 to change"), "{text}");
    trial.stacks.discard(planned).await.unwrap();
    assert_eq!(trial.status().await.unwrap(), "CREATE_COMPLETE");

    assert_eq!(trial.deploy(&[("Seconds", "60")]).await.unwrap().status, "UPDATE_COMPLETE");
    trial.remove().await.unwrap();
    assert_eq!(trial.status().await, None);
    assert!(trial.seen("Dead", "DELETE_SKIPPED") && trial.seen("Work", "DELETE_COMPLETE"));
    trial.remove().await.unwrap();
}

#[tokio::test]
async fn a_replacement_is_told_in_red_and_in_words() {
    let mut trial = Trial::new("replaced").await;
    trial.deploy(&[("Table", "replaced-one")]).await.unwrap();
    let wanted = trial.wanted(&[("Table", "replaced-two")]);
    let planned = trial.stacks.plan(&wanted, &mut |_| {}).await.unwrap().unwrap();
    assert_eq!(planned.plan.changes[0].action, Action::Replace);
    let text = planned.plan.text(true);
    assert!(text.contains("\x1b[31mREPLACE     Documents"), "{text}");
    assert!(text.contains("this replaces it"), "{text}");
    trial.stacks.discard(planned).await.unwrap();
}

#[tokio::test]
async fn a_failed_create_names_what_failed_first_and_can_simply_be_run_again() {
    let mut trial = Trial::new("first").await;
    let reason = "Table already exists: first-table";
    fault("first", json!({"logical_id": "Documents", "operation": "create", "reason": reason}));
    let error = trial.deploy(&[("Table", "first-table")]).await.unwrap_err();
    assert!(error.to_string().contains("Documents") && error.to_string().contains(reason));
    assert!(error.hint().unwrap().contains("that name is there"), "{error}");
    assert_eq!(trial.status().await.unwrap(), "ROLLBACK_COMPLETE");
    assert!(trial.events.iter().any(|event| event.state == EventState::Failed));
    let made = trial.deploy(&[("Table", "first-table")]).await.unwrap();
    assert_eq!(made.status, "CREATE_COMPLETE");
}

#[tokio::test]
async fn a_failed_update_goes_back_and_can_be_run_again() {
    let mut trial = Trial::new("update").await;
    trial.deploy(&[]).await.unwrap();
    fault("update", json!({"logical_id": "Work", "operation": "update", "reason": "not now"}));
    assert!(trial.deploy(&[("Seconds", "61")]).await.is_err());
    assert_eq!(trial.status().await.unwrap(), "UPDATE_ROLLBACK_COMPLETE");
    assert_eq!(trial.deploy(&[("Seconds", "61")]).await.unwrap().status, "UPDATE_COMPLETE");
}

#[tokio::test]
async fn a_failed_roll_back_is_continued() {
    let mut trial = Trial::new("rollback").await;
    trial.deploy(&[]).await.unwrap();
    fault(
        "rollback",
        json!({"logical_id": "Documents", "operation": "create", "reason": "no room"}),
    );
    fault(
        "rollback",
        json!({"logical_id": "rollback", "operation": "rollback", "reason": "no way back"}),
    );
    assert!(trial.deploy(&[("Table", "rollback-table")]).await.is_err());
    assert_eq!(trial.status().await.unwrap(), "UPDATE_ROLLBACK_FAILED");
    let made = trial.deploy(&[("Table", "rollback-table")]).await.unwrap();
    assert_eq!(made.status, "UPDATE_COMPLETE");
}

#[tokio::test]
async fn what_cannot_be_removed_while_clearing_up_is_let_go_of() {
    let mut trial = Trial::new("sticky").await;
    fault("sticky", json!({"logical_id": "Documents", "operation": "create", "reason": "no room"}));
    fault(
        "sticky",
        json!({"logical_id": "Work", "operation": "delete", "reason": "in use", "times": 2}),
    );
    assert!(trial.deploy(&[("Table", "sticky-table")]).await.is_err());
    assert_eq!(trial.status().await.unwrap(), "ROLLBACK_FAILED");
    let made = trial.deploy(&[("Table", "sticky-table")]).await.unwrap();
    assert_eq!(made.status, "CREATE_COMPLETE");
    assert!(trial.events.iter().any(|event| {
        event.reason.as_deref().is_some_and(|reason| reason.contains("let go of: Work"))
    }));
}

#[tokio::test]
async fn a_cancelled_run_that_left_a_stack_in_review_is_gone_over() {
    let mut trial = Trial::new("review").await;
    let left = trial.stacks.plan(&trial.wanted(&[]), &mut |_| {}).await.unwrap();
    drop(left);
    assert_eq!(trial.status().await.unwrap(), "REVIEW_IN_PROGRESS");
    assert_eq!(trial.deploy(&[]).await.unwrap().status, "CREATE_COMPLETE");
}

#[tokio::test]
async fn a_run_beside_another_waits_for_it() {
    let mut first = Trial::new("beside").await;
    let mut second = Trial::new("beside").await;
    first.deploy(&[]).await.unwrap();
    fault("beside", json!({"logical_id": "Work", "operation": "update", "hang_s": 0.3}));
    let planned =
        first.stacks.plan(&first.wanted(&[("Seconds", "62")]), &mut |_| {}).await.unwrap().unwrap();
    let quiet = &mut |_: &Event| {};
    let applied = first.stacks.apply(planned, quiet);
    let beside = async {
        while first.status().await.unwrap() != "UPDATE_IN_PROGRESS" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        second.deploy(&[("Seconds", "63")]).await
    };
    let (applied, beside) = tokio::join!(applied, beside);
    assert!(applied.is_ok());
    assert_eq!(beside.unwrap().status, "UPDATE_COMPLETE");
}

#[tokio::test]
async fn throttling_is_waited_out() {
    let mut trial = Trial::new("throttled").await;
    let call =
        |name| json!({"logical_id": name, "operation": "api", "code": "Throttling", "times": 2});
    fault("throttled", call("CreateChangeSet"));
    fault("throttled", call("DescribeStackEvents"));
    assert_eq!(trial.deploy(&[]).await.unwrap().status, "CREATE_COMPLETE");
}

#[tokio::test]
async fn expired_credentials_say_so_and_what_to_do() {
    let mut trial = Trial::with_key("expired", "expired").await;
    let error = trial.deploy(&[]).await.unwrap_err();
    assert!(error.hint().unwrap().contains("sign in again"), "{error}");
}

#[tokio::test]
async fn a_template_that_is_wrong_is_refused_with_the_services_words() {
    let trial = Trial::new("wrong").await;
    let mut wanted = trial.wanted(&[]);
    wanted.template = wanted.template.replace("VisibilityTimeout", "VisibilityTimeOut");
    let error = trial.stacks.plan(&wanted, &mut |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("VisibilityTimeOut"), "{error}");
}

#[tokio::test]
async fn a_removal_that_fails_names_what_is_in_the_way() {
    let mut trial = Trial::new("inuse").await;
    trial.deploy(&[]).await.unwrap();
    fault(
        "inuse",
        json!({"logical_id": "Work", "operation": "delete", "reason": "The bucket is not empty"}),
    );
    let error = trial.remove().await.unwrap_err();
    assert!(error.to_string().contains("Work") && error.hint().unwrap().contains("empties"));
    trial.remove().await.unwrap();
    assert_eq!(trial.status().await, None);
}
