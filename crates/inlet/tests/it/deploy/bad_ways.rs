//! Deployments that fail: each says what failed first, why, and what helps, and the same command
//! run again finishes.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use inlet_testkit::server::{Server, ServerKind};
use serde_json::json;

use super::account::Account;

#[test]
fn a_failure_at_the_first_a_middle_and_the_last_resource_is_run_again() {
    let account = Account::in_region("ap-south-1");
    let deploy = "deploy --env makes --like staging --yes";
    for (nested, logical_id) in
        [("Keys", "DataKey"), ("Functions", "Persist"), ("FrontDoor", "Distribution")]
    {
        let stack = format!("inlet-makes-serverless-{nested}");
        account.fails(&stack, logical_id, "create", "You have reached the limit of these");
        let said = account.refused(deploy);
        let last = said.lines().rev().nth(1).unwrap();
        assert!(
            last.starts_with("error: inlet-makes-serverless is in ROLLBACK_COMPLETE"),
            "{said}"
        );
        let first = format!("first to fail was {nested}/{logical_id}: You have reached the limit");
        assert!(last.contains(&first), "{said}");
        assert!(said.ends_with(
            "hint: raise the quota of this account in Service Quotas, and run the same command again\n"
        ));
        let planned = account.ours("plan --env makes --like staging");
        assert!(planned.contains("a deployment removes it and begins anew"), "{planned}");
    }
    let made = account.ours(deploy);
    assert!(made.contains("inlet-makes-serverless: it is removed and made anew"), "{made}");
    assert!(account.ours(deploy).contains("nothing to change"));
}

#[test]
fn a_failed_update_and_a_failed_way_back_are_run_again() {
    let account = Account::in_region("ap-south-2");
    let deploy = "deploy --env backs --like staging --yes";
    account.ours(deploy);
    let changed = format!("{deploy} --parameter LogRetentionDays=30");
    account.fails(
        "inlet-backs-serverless-Api",
        "AccessLogs",
        "update",
        "not authorized to perform this",
    );
    let said = account.refused(&changed);
    assert!(said.contains("is in UPDATE_ROLLBACK_COMPLETE"), "{said}");
    assert!(said.contains("hint: this identity may not; `inlet plan` lists"), "{said}");

    account.fails("inlet-backs-serverless-Api", "AccessLogs", "update", "not now");
    account.fails("inlet-backs-serverless", "inlet-backs-serverless", "rollback", "no way back");
    let said = account.refused(&changed);
    assert!(said.contains("is in UPDATE_ROLLBACK_FAILED"), "{said}");
    let said = account.refused("plan --env backs");
    assert!(said.contains("hint: `inlet deploy` continues its way back first"), "{said}");
    let made = account.ours(&changed);
    assert!(made.contains("update complete"), "{made}");
}

#[test]
fn an_interrupted_run_is_taken_up_by_the_next() {
    let account = Account::in_region("ap-southeast-1");
    let stack = "inlet-halts-serverless-Queue";
    account.fault(stack, json!({"logical_id": "Queue", "operation": "create", "hang_s": 1.0}));
    let mut child = account
        .inlet()
        .args(account.words("deploy --env halts --like staging --yes"))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("DeadLetterQueue")).unwrap().unwrap();
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(rest.iter().any(|line| line == "error: interrupted"), "{rest:?}");
    assert!(rest.last().unwrap().starts_with("hint: CloudFormation goes on"), "{rest:?}");
    let said = account.ours("deploy --env halts --yes --like staging");
    assert!(said.contains("another run is at it; it is waited for"), "{said}");
    assert!(said.contains("nothing to change"), "{said}");
}

#[test]
fn who_says_no_or_nothing_changes_nothing() {
    let account = Account::in_region("ap-southeast-2");
    let mut child = account
        .inlet()
        .args(account.words("deploy --env asks --like staging"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"no\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("change inlet-bootstrap? [y/N] "), "{said}");
    assert!(said.contains("error: nothing was changed"), "{said}");
    let said = account.refused("deploy --env asks --like staging");
    assert!(said.contains("hint: give --yes to go on without asking"), "{said}");
    account.ours("deploy --env asks --like staging --yes");
    let said = account.refused("destroy --env asks");
    assert!(said.contains("hint: give --yes-delete asks"), "{said}");
    let said = account.refused("destroy --env asks --yes-delete other");
    assert!(said.contains("hint: the environment's name is asks"), "{said}");
    assert!(account.ours("deploy --env asks --yes").contains("nothing to change"));
}

#[test]
fn throttling_and_lost_connections_are_waited_out_or_told() {
    let account = Account::in_region("ap-northeast-1");
    for call in ["CreateChangeSet", "DescribeStackEvents", "ExecuteChangeSet"] {
        let said =
            json!({"logical_id": call, "operation": "api", "code": "Throttling", "times": 1});
        account.fault("inlet-slow", said);
    }
    account.ours("deploy --env slow --like staging --yes");
    let output = account
        .inlet()
        .args(account.words("deploy --env slow --yes"))
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("hint: is there a network"), "{said}");
    let output = account
        .inlet()
        .args(account.words("deploy --env slow --yes"))
        .env("AWS_ACCESS_KEY_ID", "expired")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("hint: the credentials are over: sign in again"), "{said}");
}

#[test]
fn a_name_that_is_taken_is_told() {
    let account = Account::in_region("ap-northeast-2");
    account.fails(
        "inlet-taken-serverless-Bucket",
        "Bucket",
        "create",
        "inlet-taken already exists",
    );
    let said = account.refused("deploy --env taken --like staging --yes");
    assert!(said.contains("first to fail was Bucket/Bucket: inlet-taken already exists"), "{said}");
    assert!(said.contains("hint: a resource of that name is there from elsewhere"), "{said}");
}

#[test]
fn a_bucket_that_is_not_empty_is_emptied() {
    let account = Account::in_region("ap-northeast-3");
    let deployed = account.ours("deploy --env full --like staging --yes");
    let bucket = deployed.lines().find_map(|line| line.strip_prefix("StaticBucketName ")).unwrap();
    // Two versions of an object, one of them removed.
    let object = account.url(&format!("/{}/static/own.html", bucket.trim()));
    let signed = format!(
        "AWS4-HMAC-SHA256 Credential=test/20261121/{}/s3/aws4_request, SignedHeaders=host, \
         Signature=0",
        account.region
    );
    for text in ["one", "two"] {
        ureq::put(&object).header("authorization", &signed).send(text).unwrap();
    }
    ureq::delete(&object).header("authorization", &signed).call().unwrap();
    let gone = account.ours("destroy --env full --yes-delete full");
    assert!(gone.contains(&format!("emptied {} of 4", bucket.trim())), "{gone}");
    assert!(account.standing("inlet-full-serverless").is_empty());
}

#[test]
fn a_package_that_cannot_start_there_is_refused_before_anything_is_asked() {
    let account = Account::in_region("ap-northeast-3");
    let said = account.refused("deploy --env full --yes --function-binary /etc/passwd");
    assert!(said.contains("/etc/passwd is no 64-bit ELF executable"), "{said}");
    assert!(!said.contains("account 123456789012"), "{said}");
}

#[test]
fn what_somebody_changed_by_hand_is_told() {
    let account = Account::in_region("sa-east-1");
    account.ours("deploy --env drifts --like staging --yes");
    let queues = account.standing("inlet-drifts-serverless-Queue");
    let stack = queues[0]["stack"].as_str().unwrap();
    let said =
        json!({"stack": stack, "logical_id": "Queue", "property": "VisibilityTimeout", "value": 7});
    ureq::post(account.url("/double/drift")).send(said.to_string()).unwrap();
    let status = account.ours("status --env drifts");
    assert!(status.contains("drift: 1 changed by hand"), "{status}");
    assert!(
        status.contains("Queue/Queue/VisibilityTimeout: ") && status.contains("-> 7"),
        "{status}"
    );
}

#[test]
fn who_may_not_is_told_what_a_deployer_needs() {
    let account = Account::in_region("il-central-1");
    let said = json!({"logical_id": "CreateChangeSet", "operation": "api", "code": "AccessDenied"});
    account.fault("inlet-denied-serverless", said);
    let said = account.refused("deploy --env denied --like staging --yes");
    assert!(said.contains("error: could not plan the stack inlet-denied-serverless: "), "{said}");
    assert!(said.contains("hint: this identity may not; `inlet plan` lists the actions"), "{said}");
}

#[test]
fn a_connection_that_is_lost_on_the_way_is_told_and_what_was_begun_goes_on() {
    let account = Account::in_region("ca-west-1");
    let mut double = Server::start(ServerKind::CloudFormation);
    let mut child = account
        .inlet()
        .args(account.words("deploy --env lost --like staging --yes"))
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", double.port()))
        .env("AWS_MAX_ATTEMPTS", "2")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("Keys/DataKey")).unwrap().unwrap();
    double.stop(true);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let [.., error, hint] = &rest[..] else { panic!("{rest:?}") };
    assert!(error.starts_with("error: could not "), "{rest:?}");
    assert!(hint.contains("Then run the same command again"), "{rest:?}");
}
