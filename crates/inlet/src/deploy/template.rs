//! `inlet template`: the files that describe what stands on AWS.

use anyhow::Context;
use inlet_deploy::firewall;
use inlet_deploy::templates::{self, Environment, File, Shape};

use super::misnamed;
use crate::cli::deploy::TemplateArgs;
use crate::report::{self, Hinted};

/// Prints a file, the list of them, parameters, or the differences of environments.
pub(super) fn run(args: &TemplateArgs, waf: Option<&str>) -> anyhow::Result<()> {
    let shape = Shape::from(args.shape);
    if let [left, right] = &args.diff[..] {
        return differences(left, right, shape);
    }
    if args.parameters {
        return parameters(shape);
    }
    if let Some(directory) = &args.output {
        for file in templates::FILES {
            let path = directory.join(file.path);
            let parent = path.parent().unwrap_or(directory);
            std::fs::create_dir_all(parent)
                .and_then(|()| std::fs::write(&path, file.text))
                .with_context(|| format!("could not write {}", path.display()))?;
        }
        report::say(format_args!(
            "{} files are in {}",
            templates::FILES.len(),
            directory.display()
        ));
        return Ok(());
    }
    match &args.name {
        Some(name) => match (find(name, shape)?, waf) {
            (File { path: firewall::TEMPLATE, .. }, Some(text)) => report::data(text.trim_end()),
            (file, _) => report::data(file.text.trim_end()),
        },
        None => templates::FILES.iter().try_for_each(|file| report::data(file.path)),
    }
}

/// The file that a word means: its path, or its name alone.
fn find(word: &str, shape: Shape) -> anyhow::Result<File> {
    let of_shape = shape.word();
    let places = [
        word.to_owned(),
        format!("{word}.yaml"),
        format!("modules/{word}"),
        format!("modules/{word}.yaml"),
        format!("environments/{word}"),
        format!("environments/{word}.{of_shape}.json"),
    ];
    places.iter().find_map(|path| templates::file(path)).ok_or_else(|| {
        Hinted::usage(format!("there is no template {word}"), "`inlet template` lists them").into()
    })
}

fn parameters(shape: Shape) -> anyhow::Result<()> {
    let staging = Environment::named("staging", None, shape).map_err(misnamed)?;
    for one in staging.declared() {
        let takes = match (&one.default, one.allowed.is_empty()) {
            (_, false) => one.allowed.join("|"),
            (Some(default), true) if !default.is_empty() => format!("default {default}"),
            _ => "-".to_owned(),
        };
        report::data(format_args!("{:<24} {takes:<36} {}", one.name, one.description))?;
    }
    Ok(())
}

fn differences(left: &str, right: &str, shape: Shape) -> anyhow::Result<()> {
    let one = Environment::named(left, None, shape).map_err(misnamed)?;
    let other = Environment::named(right, None, shape).map_err(misnamed)?;
    report::data(format_args!("{:<24} {left:<34} {right:<46} WHAT IT IS", "PARAMETER"))?;
    for one in one.differences(&other) {
        let (name, left, right) = (one.name, one.left, one.right);
        report::data(format_args!("{name:<24} {left:<34} {right:<46} {}", one.description))?;
    }
    Ok(())
}
