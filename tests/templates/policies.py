"""Runs checkov, once with what the templates suppress and once without.

As they lie the templates must have no finding. Without the suppressions the findings must be
exactly what was suppressed: a suppression that suppresses nothing is a lie about the template.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

import model


def findings(checkov, directory):
    """What checkov finds, as (file, resource, check), and how many checks it made."""
    done = subprocess.run(
        [checkov, "--directory", str(directory), "--framework", "cloudformation", "--skip-download",
         "--compact", "--quiet", "--output", "json"],
        capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        sys.exit(f"checkov printed no report:\n{done.stderr[-2000:]}")
    failed = {(one["file_path"].lstrip("/"), one["resource"].split(".", 1)[1], one["check_id"])
              for one in report["results"]["failed_checks"]}
    return failed, report["summary"]


def suppressed():
    """What the templates suppress, as (file, resource, check)."""
    return {(file, name, skip["id"])
            for file in model.files()
            for name, one in model.template(file)["Resources"].items()
            for skip in one.get("Metadata", {}).get("checkov", {}).get("skip", [])}


def bare(directory):
    """Writes the templates without their metadata."""
    for file in model.files():
        template = json.loads(json.dumps(model.template(file)))
        for one in template["Resources"].values():
            one.get("Metadata", {}).pop("checkov", None)
        path = Path(directory) / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(template))


def main(checkov):
    faults = []
    found, summary = findings(checkov, model.DEPLOY)
    if summary["passed"] < 200:
        faults.append(f"only {summary['passed']} checks passed: were the templates read at all?")
    faults += [f"{file}: {name}: {check}" for file, name, check in sorted(found)]
    with tempfile.TemporaryDirectory() as directory:
        bare(directory)
        without, _ = findings(checkov, directory)
    faults += [f"{file}: {name}: {check} is suppressed and is no finding"
               for file, name, check in sorted(suppressed() - without)]
    for line in faults:
        print(line, file=sys.stderr)
    print(f"{summary['passed']} checks passed, {len(suppressed())} findings suppressed")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main(sys.argv[1])
