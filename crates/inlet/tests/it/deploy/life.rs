//! An environment's life: planned, deployed, looked at, changed, removed, and nothing left.

use serde_json::json;

use super::account::{Account, file};

#[test]
fn functions_in_staging_live_and_go() {
    live(&Account::in_region("eu-west-1"), "staging", "serverless", "");
}

#[test]
fn functions_in_production_live_and_go() {
    live(&Account::in_region("eu-west-2"), "production", "serverless", "");
}

#[test]
fn tasks_in_staging_live_and_go() {
    live(&Account::in_region("eu-west-3"), "staging", "containers", "");
}

#[test]
fn tasks_in_production_live_and_go() {
    let domain =
        " --parameter DomainName=inlet.example.com --parameter HostedZoneId=Z0000000000000";
    live(&Account::in_region("eu-south-1"), "production", "containers", domain);
}

/// One environment in one shape, from the first plan to the last proof. What is given once, as
/// `given`, is remembered.
fn live(account: &Account, environment: &str, shape: &str, given: &str) {
    let of = format!("--env {environment} --shape {shape}");
    let stack = format!("inlet-{environment}-{shape}");

    let planned = account.ours(&format!("plan {of}{given}"));
    assert!(planned.contains("  add         Queue/Queue (AWS::SQS::Queue)\n"), "{planned}");
    assert!(account.standing(&stack).is_empty(), "a plan changes nothing");

    let deployed = account.ours(&format!("deploy {of}{given} --yes"));
    assert!(deployed.contains("create complete  Queue/Queue (AWS::SQS::Queue): A queue in which"));
    assert!(deployed.contains("curl https://"), "{deployed}");
    let output = |name: &str| {
        let line = deployed.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };

    // The services themselves have what was made.
    let table = json!({"TableName": output("TableName")});
    let table = account.ask("dynamodb", "DynamoDB_20120810.DescribeTable", &table);
    assert_eq!(table["Table"]["KeySchema"][0]["AttributeName"], "pk");
    let queue = json!({"QueueUrl": output("QueueUrl"), "AttributeNames": ["All"]});
    let queue = account.ask("sqs", "AmazonSQS.GetQueueAttributes", &queue);
    assert!(queue["Attributes"]["RedrivePolicy"].as_str().unwrap().contains("maxReceiveCount"));

    // Again at once there is nothing to do, and what was given need not be given again.
    let again = account.ours(&format!("deploy {of} --yes"));
    assert!(again.contains("nothing to change"), "{again}");
    let planned = account.ours(&format!("plan {of}"));
    assert!(planned.contains("nothing to change"), "{planned}");

    // A parameter changes.
    let planned = account.ours(&format!("plan {of} --parameter LogRetentionDays=30"));
    assert!(planned.contains("RetentionInDays: ") && planned.contains(" -> 30"), "{planned}");
    let changed = account.ours(&format!("deploy {of} --parameter LogRetentionDays=30 --yes"));
    assert!(changed.contains("update complete"), "{changed}");
    assert!(account.ours(&format!("deploy {of} --yes")).contains("nothing to change"));

    // Another release comes, and the one before it comes back.
    if environment == "staging" {
        let changed = account.ours(&format!(
            "deploy {of} --yes --function-binary /bin/false --image-binary /bin/false"
        ));
        assert!(changed.contains("update complete"), "{changed}");
        let back = account.ours(&format!("deploy {of} --yes"));
        assert!(back.contains("update complete"), "{back}");
    }

    let status = account.ours(&format!("status {of}"));
    for said in ["_COMPLETE", "Url ", "drift: none", "alarms: ", "queue: 0 waiting, 0 in flight, 0"]
    {
        assert!(status.contains(said), "{said}: {status}");
    }
    assert_eq!(shape == "containers", status.contains("instances:"), "{status}");

    // What holds documents stays, and is named.
    let gone = account.ours(&format!("destroy {of} --yes-delete {environment} --prove"));
    assert!(gone.contains("keep    Table/Table"), "{gone}");
    assert!(gone.contains("delete skipped   Table/Table"), "{gone}");
    assert!(gone.contains("kept    table ") && gone.contains("kept    key "), "{gone}");
    let table = json!({"TableName": output("TableName")});
    let table = account.ask("dynamodb", "DynamoDB_20120810.DescribeTable", &table);
    assert!(table["Table"].is_object(), "{table}");

    // And then it goes, too.
    let gone = account.ours(&format!(
        "destroy {of} --yes-delete {environment} --with-data --with-bootstrap --prove"
    ));
    assert!(gone.contains("nothing that costs money is left"), "{gone}");
    for (service, target, list) in [
        ("dynamodb", "DynamoDB_20120810.ListTables", "TableNames"),
        ("sqs", "AmazonSQS.ListQueues", "QueueUrls"),
        ("secretsmanager", "secretsmanager.ListSecrets", "SecretList"),
        ("logs", "Logs_20140328.DescribeLogGroups", "logGroups"),
    ] {
        let left = account.ask(service, target, &json!({}));
        assert!(left[list].as_array().is_none_or(Vec::is_empty), "{service}: {left}");
    }
}

#[test]
fn the_roles_of_ci_are_added_to_a_bootstrap_that_stands_and_stay() {
    let account = Account::in_region("me-central-1");
    let of = "deploy --env ci --like staging --yes";
    account.ours(of);
    let roles = |account: &Account| {
        let mut ids: Vec<_> = account
            .standing("inlet-bootstrap")
            .iter()
            .map(|one| one["logical_id"].as_str().unwrap().to_owned())
            .filter(|id| id.contains("Github"))
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(roles(&account), Vec::<String>::new());
    let refused = account.run(&format!("{of} --bootstrap-parameter GithubRepo=a/b"));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("no parameter GithubRepo") && said.contains("GithubRepository"),
        "{said}"
    );

    let added = account.ours(&format!("{of} --bootstrap-parameter GithubRepository=acme/orders"));
    assert!(added.contains("Github"), "{added}");
    let there = roles(&account);
    assert!(!there.is_empty());
    // What was given stays, whatever is deployed later.
    account.ours(&format!("{of} --with-bootstrap"));
    account.ours(of);
    assert_eq!(roles(&account), there);
}

#[test]
fn what_was_made_is_what_the_golden_list_names() {
    let account = Account::in_region("ap-east-1");
    account.ours("deploy --env golden --like staging --yes");
    let golden = std::fs::read_to_string(file("golden/serverless-staging.txt")).unwrap();
    let standing = account.standing("inlet-golden-serverless");
    assert_eq!(standing.len(), golden.lines().count());
    let mut kinds: Vec<&str> = standing.iter().map(|one| one["type"].as_str().unwrap()).collect();
    let mut wanted: Vec<&str> =
        golden.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    kinds.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(kinds, wanted);
}
