//! The schema of Aurora is a gate before a release takes traffic, with a way back.

use serde_json::json;

use super::account::Account;

const CHANGED: &str = "the schema is as this release needs it";

/// Where in a text something is said.
fn at(text: &str, words: &str) -> usize {
    text.find(words).unwrap_or_else(|| panic!("{words:?} is not in {text}"))
}

#[test]
fn functions_take_traffic_after_the_schema_was_changed_and_go_back() {
    let account = Account::in_region("us-west-1");
    let deploy = "deploy --env data --like staging --yes";
    let first =
        account.ours(&format!("{deploy} --parameter Store=aurora --parameter InNetwork=yes"));
    assert!(first.contains(CHANGED), "{first}");
    assert_eq!(account.migrations().len(), 1);
    assert!(account.ours(deploy).contains("nothing to change"));
    assert_eq!(account.migrations().len(), 1, "what changes nothing migrates nothing");

    // The next release, and the one before it again: the schema first, each time.
    for release in ["/bin/false", "/bin/true"] {
        let said = account.ours(&format!("{deploy} --function-binary {release}"));
        let function = said.find("update complete  Functions/Intake (AWS::Lambda::Function)");
        let said_first = at(&said, CHANGED);
        assert!(function.is_some_and(|taken| said_first < taken), "{said}");
        assert!(at(&said, "delete complete  MigrationRole") < function.unwrap(), "{said}");
        assert!(at(&said, "delete skipped   MigrationLogs") > 0, "its log tells of it later");
    }
    assert_eq!(account.migrations().len(), 3);
    assert!(account.standing("inlet-data-serverless-migration").is_empty());

    // A schema that can't be changed stops the release, and the leave to change it is gone.
    let failing = json!({"operation": "run", "logical_id": "", "reason": "column is in use"});
    account.fault("inlet-data-serverless-migration", failing);
    let said = account.refused(&format!("{deploy} --function-binary /bin/false"));
    assert!(
        said.contains("error: could not change the schema with inlet-data-serverless-migration")
    );
    assert!(said.contains("Failed: column is in use"), "{said}");
    assert!(!said.contains("update complete"), "nothing of the release was made: {said}");
    assert!(account.standing("inlet-data-serverless-migration").is_empty());
    assert!(account.ours(deploy).contains("nothing to change"), "the release before still stands");
    assert!(account.ours(&format!("{deploy} --function-binary /bin/false")).contains(CHANGED));
}

#[test]
fn tasks_start_after_the_schema_is_there() {
    let account = Account::in_region("us-west-2");
    let deploy = "deploy --env data --like staging --shape containers --yes";
    let failing = json!({"operation": "run", "logical_id": "", "reason": "no route"});
    account.fault("inlet-data-containers-migration", failing);
    let said = account.refused(&format!("{deploy} --parameter Store=aurora"));
    assert!(said.contains("it ended with 1: no route"), "{said}");

    // The database stands and nothing runs: the same command takes it up there.
    let said = account.ours(&format!("{deploy} --parameter Store=aurora"));
    assert!(said.contains("the database has its schema: the tasks are started"), "{said}");
    let migrations = account.migrations();
    assert_eq!(migrations.len(), 2);
    for migration in &migrations {
        assert_eq!(migration["wanted"], json!({"ApiService": "0", "PersistService": "0"}));
    }
    let services = account.standing("inlet-data-containers-Tasks");
    let wanted: Vec<_> = services
        .iter()
        .filter(|one| one["type"] == "AWS::ECS::Service")
        .map(|one| one["properties"]["DesiredCount"].as_str().unwrap())
        .collect();
    assert_eq!(wanted, ["1", "1"]);
    assert!(account.ours(deploy).contains("nothing to change"));

    // With a release that runs, the schema is changed beside it.
    let said = account.ours(&format!("{deploy} --image-binary /bin/false"));
    assert!(at(&said, CHANGED) < at(&said, "update complete  Tasks/ApiService"), "{said}");
    assert_eq!(
        account.migrations()[2]["wanted"],
        json!({"ApiService": "1", "PersistService": "1"})
    );
    assert!(!said.contains("the tasks are started"), "{said}");
}
