//! Settings and commands: each is honoured or refused, none is ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;

use crate::server::{Server, TOKEN, inlet, until};

/// Every command, with what its words need to be complete.
const COMMANDS: &[(&str, &[&str])] = &[
    ("up", &[]),
    ("edge", &[]),
    ("serve", &[]),
    ("persist", &[]),
    ("summarize", &[]),
    ("status", &[]),
    ("reload", &[]),
    ("zone", &["down", "a"]),
    ("send", &["-"]),
    ("get", &["id"]),
    ("list", &[]),
    ("tail", &[]),
    ("file", &["list"]),
    ("streams", &[]),
    ("dead-letters", &[]),
    ("redrive", &[]),
    ("replay", &[]),
    ("export", &[]),
    ("restore", &[]),
    ("fsck", &[]),
    ("migrate", &[]),
    ("token", &["list"]),
    ("bench", &[]),
    ("completions", &["bash"]),
];

/// Commands that run until they are stopped.
const ROLES: [&str; 4] = ["up", "edge", "serve", "persist"];

/// The flags of all settings.
fn flags(directory: &Path) -> BTreeSet<String> {
    let output = run(directory, &["config", "--json"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let name = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("--{}", line["name"].as_str().unwrap().replace('_', "-"))
    };
    lines.lines().map(name).collect()
}

fn run(directory: &Path, words: &[&str]) -> Output {
    inlet(directory).args(words).output().unwrap()
}

/// The flags of settings that a command's help shows.
fn honoured(directory: &Path, command: &str, words: &[&str]) -> BTreeSet<String> {
    let leaf: Vec<&str> = match command {
        "zone" | "file" | "token" => vec![command, words[0], "--help"],
        _ => vec![command, "--help"],
    };
    let help = String::from_utf8(run(directory, &leaf).stdout).unwrap();
    let (_, settings) = help.split_once("Settings:").unwrap_or_default();
    let flags = settings.split_whitespace().filter(|word| word.starts_with("--"));
    flags.map(str::to_owned).collect()
}

#[test]
fn a_flag_that_a_command_can_not_honour_is_refused_with_the_commands_it_belongs_to() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let flags = flags(directory);
    assert!(flags.len() > 40, "{flags:?}");
    let check = |(command, words): &(&str, &[&str])| {
        let honoured = honoured(directory, command, words);
        assert!(honoured.is_subset(&flags), "{command}: {honoured:?}");
        for flag in flags.difference(&honoured) {
            let words = [&[*command][..], words, &[flag, "1"]].concat();
            let output = run(directory, &words);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
            assert!(output.stdout.is_empty(), "{words:?}");
            let expected = format!("({flag}) is not honoured by `inlet {command}`");
            assert!(said.contains(&expected), "{words:?}: {said}");
            assert!(said.contains("hint: it belongs to `inlet "), "{words:?}: {said}");
        }
    };
    std::thread::scope(|scope| {
        for part in COMMANDS.chunks(COMMANDS.len().div_ceil(2)) {
            scope.spawn(move || part.iter().for_each(check));
        }
    });
    let made: Vec<_> = std::fs::read_dir(directory).unwrap().collect();
    assert!(made.is_empty(), "a refused command made {made:?}");
}

/// A value for each setting that no command can use.
fn useless(flag: &str) -> &'static str {
    match flag {
        "--data" | "--tls-cert" | "--tls-key" | "--tls-dir" | "--pages" | "--backend-ca"
        | "--firewall" | "--plans" | "--static" => "/proc/nosuch/x",
        "--access-log" => "/nosuch/x",
        "--queue" | "--store" | "--bucket" | "--cache" | "--secrets" => "nosuch:",
        "--zone" | "--instance" => "a/b",
        _ => "nosuch",
    }
}

#[test]
fn a_value_that_can_not_be_used_is_refused_by_every_role_before_it_says_that_it_is_up() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for role in ROLES {
        for flag in honoured(directory, role, &[]) {
            let base: &[&str] = match role {
                "up" | "serve" => &["--https", "127.0.0.1:0", "--http", "off"],
                "edge" => &["--https", "127.0.0.1:0", "--http", "off", "--backend", "127.0.0.1:1"],
                _ => &[],
            };
            let kept = base.chunks(2).filter(|pair| pair[0] != flag).flatten().copied();
            let mut words = vec![role, &flag, useless(&flag)];
            words.extend(kept);
            let output = run(directory, &words);
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(matches!(output.status.code(), Some(1 | 2)), "{words:?}: {said}");
            assert!(output.stdout.is_empty(), "{words:?} said that it is up");
            let name = flag.trim_start_matches("--").replace('-', "_");
            let is_named = said.contains(&name) || said.contains(useless(&flag));
            assert!(is_named && said.contains("error: "), "{words:?}: {said}");
        }
    }
}

#[test]
fn what_only_an_edge_enforces_is_refused_by_serve_wherever_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::write(directory.join("shared.toml"), "firewall = \"nosuch.toml\"\n").unwrap();
    let in_file = run(directory, &["serve", "--config", "shared.toml"]);
    let mut by_variable = inlet(directory);
    let by_variable = by_variable.arg("serve").env("INLET_PLANS", "nosuch").output().unwrap();
    for (output, name) in
        [(in_file, "firewall (shared.toml)"), (by_variable, "plans (INLET_PLANS)")]
    {
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("{name} is not honoured by `inlet serve`")), "{said}");
        assert!(said.contains("it belongs to `inlet up`, `inlet edge`"), "{said}");
    }
    // A command that asks a server reads the same file and goes on.
    let list = run(directory, &["list", "--config", "shared.toml"]);
    let said = String::from_utf8(list.stderr).unwrap();
    assert!(said.contains("is no data directory"), "{said}");
}

#[test]
fn settings_without_https_or_beside_another_engine_have_no_effect_and_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let table: [(&[&str], &str); 4] = [
        (&["up", "--https", "off", "--plain", "127.0.0.1:0", "--tls-dir", "x"], "tls_dir"),
        (&["serve", "--https", "off", "--plain", "127.0.0.1:0", "--http", "127.0.0.1:0"], "http"),
        (&["up", "--cache", "redis://127.0.0.1:1", "--cache-bytes-max", "1MiB"], "cache_bytes_max"),
        (&["up", "--instances", "2", "--zone", "a"], "zone"),
    ];
    for (words, name) in table {
        let output = run(directory, words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(name) && said.contains("has no effect"), "{words:?}: {said}");
    }
}

/// `up` beside a Service named `inlet`, as Kubernetes starts it.
#[test]
fn up_starts_beside_a_kubernetes_service_that_is_named_inlet() {
    let directory = tempfile::tempdir().unwrap();
    let variables = BTreeMap::from([
        ("INLET_SERVICE_HOST", "10.0.0.7"),
        ("INLET_SERVICE_PORT", "8443"),
        ("INLET_SERVICE_PORT_HTTPS", "8443"),
        ("INLET_PORT", "tcp://10.0.0.7:8443"),
        ("INLET_PORT_8443_TCP", "tcp://10.0.0.7:8443"),
        ("INLET_PORT_8443_TCP_PROTO", "tcp"),
        ("INLET_PORT_8443_TCP_PORT", "8443"),
        ("INLET_PORT_8443_TCP_ADDR", "10.0.0.7"),
    ]);
    for flags in [&[][..], &["--instances", "1"]] {
        let data = directory.path().join(format!("data{}", flags.len()));
        let mut command = inlet(directory.path());
        command.envs(&variables);
        let server = Server::start_command(command, "up", &data, flags, Some(TOKEN));
        server.save("[1]");
        assert!(server.stop().success());
    }
    let mut wrong = inlet(directory.path());
    let output = wrong.arg("up").env("INLET_PORT", "8443").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no setting \"port\" (INLET_PORT)"), "{said}");
}

#[test]
fn up_alone_enforces_rules_plans_and_the_access_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let rule = "[[rules]]\nname = \"no-docs\"\naction = \"block\"\npath = '^/docs$'\n";
    std::fs::write(path("firewall.toml"), rule).unwrap();
    let plan = "token_plan = \"few\"\n[plans.few]\nrequests_per_second = 1\nrequests_burst = 3\n";
    std::fs::write(path("plans.toml"), plan).unwrap();
    std::fs::create_dir(path("site")).unwrap();
    std::fs::write(path("site/hello.txt"), "hello").unwrap();
    let (firewall, plans, site) = (path("firewall.toml"), path("plans.toml"), path("site"));
    let log = path("access.log");
    let flags = [
        ["--firewall", &firewall],
        ["--plans", &plans],
        ["--static", &site],
        ["--access-log", &log],
    ];
    let server =
        Server::start_with(&directory.path().join("data"), flags.as_flattened(), Some(TOKEN));
    assert_eq!(server.get("/docs").status, 403);
    until("the plan's limit is reached", || server.get("/healthz").status == 429);
    until("a file is served", || server.get("/static/hello.txt").body == b"hello");
    until("the log has a line of it", || {
        std::fs::read_to_string(&log).unwrap().contains("/static/hello.txt")
    });
    assert!(server.stop().success());
}

#[test]
fn every_variable_that_a_shipped_file_sets_is_a_setting() {
    let directory = tempfile::tempdir().unwrap();
    let flags = flags(directory.path());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut folders = vec![root.join("deploy")];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(path) {
                let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
                let words = text.split(|c: char| !is_part(c));
                found.extend(
                    words
                        .filter_map(|word| word.strip_prefix("INLET_"))
                        .map(|name| format!("--{}", name.to_ascii_lowercase().replace('_', "-"))),
                );
            }
        }
    }
    // No settings: the file of settings, the token, and the part that a function plays.
    let known = |flag: &&String| {
        flags.contains(*flag) || ["--config", "--token", "--function"].contains(&&***flag)
    };
    let unknown: Vec<_> = found.iter().filter(|flag| !known(flag)).collect();
    assert!(found.len() > 5 && unknown.is_empty(), "no command would start with {unknown:?}");
}
