//! `inlet template`.

use super::account::{Account, file};

#[test]
fn every_template_is_printed_as_it_lies() {
    let account = Account::in_region("us-east-1");
    let listed = account.ours("template");
    for path in ["serverless.yaml", "modules/queue.yaml", "environments/staging.containers.json"] {
        assert!(listed.lines().any(|line| line == path), "{listed}");
        let printed = account.ours(&format!("template {path}"));
        let lies = std::fs::read_to_string(file(path)).unwrap();
        assert_eq!(printed.trim_end(), lies.trim_end());
    }
    assert_eq!(account.ours("template queue"), account.ours("template modules/queue.yaml"));
    let refused = account.run("template nothing");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("hint: `inlet template` lists"));
}

#[test]
fn all_files_are_written_for_those_who_deploy_without_inlet() {
    let account = Account::in_region("us-east-1");
    account.ours("template --output out");
    for line in account.ours("template").lines() {
        let written = std::fs::read(account.directory.path().join("out").join(line)).unwrap();
        assert_eq!(written, std::fs::read(file(line)).unwrap(), "{line}");
    }
}

#[test]
fn environments_are_compared_and_parameters_explained() {
    let account = Account::in_region("us-east-1");
    let compared = account.ours("template --diff staging production");
    let waf = compared.lines().find(|line| line.starts_with("Waf ")).unwrap();
    assert!(waf.contains("off") && waf.contains("block") && waf.contains("firewall"), "{waf}");
    assert!(!compared.contains("Cache "), "what is the same is not listed");
    let containers = account.ours("template --shape containers --parameters");
    assert!(containers.contains("ApiMin") && containers.contains("The fewest instances"));
    assert!(!containers.contains("RepositoryArn"), "what the deployment gives is not for users");
}
