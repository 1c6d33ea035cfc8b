//! `inlet plan` where nothing stands yet.

use super::account::Account;

#[test]
fn a_first_plan_lists_everything_with_costs_and_permissions_and_changes_nothing() {
    let account = Account::in_region("eu-north-1");
    for shape in ["serverless", "containers"] {
        let golden =
            std::fs::read_to_string(super::account::file(&format!("golden/{shape}-staging.txt")));
        let text = account.ours(&format!("plan --env staging --shape {shape}"));
        for line in golden.unwrap().lines() {
            let [path, kind, _] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert!(text.contains(&format!("  add         {path} ({kind})\n")), "{path}\n{text}");
        }
        assert!(text.contains("The queue and its dead letters"), "each has its sentence");
        assert!(text.contains("inlet-bootstrap\n"), "what an account needs once is in it");
        assert!(text.contains("together\n"), "{text}");
        assert!(text.contains("cloudformation: ") && text.contains("  sqs: "));
        assert_eq!(shape == "containers", text.contains("inlet-staging-registry\n"));
    }
    let read = account.ours("plan --env staging --json");
    let read: serde_json::Value = serde_json::from_str(&read).unwrap();
    assert_eq!(read["stacks"]["inlet-staging-serverless"][0]["action"], "add");
    assert!(read["usd_a_month"]["small"].as_f64().unwrap() > 1.0);
}

#[test]
fn words_that_fit_nothing_are_refused_with_what_does() {
    let account = Account::in_region("eu-north-1");
    let cases = [
        ("plan --env staging --parameter store=aurora", "did you mean Store?"),
        ("plan --env staging --parameter Store=mongodb", "use one of: dynamodb, aurora"),
        ("plan --env staging --parameter Store", "--parameter NAME=VALUE"),
        ("plan --env staging --parameter Release=1", "by itself"),
        ("plan --env Staging", "small letters"),
        ("plan --env eu", "--like staging"),
    ];
    for (words, hint) in cases {
        let output = account.run(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words}: {said}");
        assert!(said.contains("hint: ") && said.contains(hint), "{words}: {said}");
    }
}

#[test]
fn who_cannot_sign_in_is_told_how() {
    let account = Account::in_region("eu-north-1");
    let output = account
        .inlet()
        .args(["plan", "--env", "staging"])
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("hint: is there a network"), "{said}");
    let output = account
        .inlet()
        .args(["plan", "--env", "staging"])
        .env_remove("AWS_ACCESS_KEY_ID")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("hint: sign in: `aws sso login`"), "{said}");
}
