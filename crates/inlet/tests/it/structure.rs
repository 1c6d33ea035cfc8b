//! The crate table of docs/ARCHITECTURE.md, held against what the crates really import.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn crates_import_what_the_table_in_architecture_md_allows_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let allowed = table(&std::fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap());
    let real = imports(root);
    assert_eq!(
        allowed.keys().collect::<Vec<_>>(),
        real.keys().collect::<Vec<_>>(),
        "the table and the workspace have different crates"
    );
    for (name, imported) in &real {
        let more: Vec<_> = imported.difference(&allowed[name]).collect();
        assert!(more.is_empty(), "{name} imports {more:?}, which the table does not allow");
    }
}

/// The rows `| `crate` | owns | imports |` of the table.
fn table(text: &str) -> Imports {
    let rows = text.lines().filter(|line| line.starts_with("| `inlet"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let name: Vec<String> = names(cells[0]);
        (name[0].clone(), cells.last().map(|cell| BTreeSet::from_iter(names(cell))).unwrap())
    })
    .collect()
}

/// What each crate of the workspace imports of the others, tests aside.
fn imports(root: &Path) -> Imports {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    packages
        .iter()
        .map(|package| {
            let ours = package["dependencies"].as_array().unwrap().iter();
            let ours = ours.filter(|dependency| dependency["kind"].is_null()).map(name);
            (name(package), ours.filter(|imported| imported.starts_with("inlet")).collect())
        })
        .collect()
}
