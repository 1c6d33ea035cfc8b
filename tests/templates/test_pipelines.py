"""The pipelines: no long-lived key, a sign-in by OIDC, and commands that run on a laptop too."""
import fnmatch
import re
import shlex
import unittest

import yaml

import generated
import model

GITHUB = model.DEPLOY / "github" / "deploy.yml"
GITLAB = model.DEPLOY / "gitlab" / ".gitlab-ci.yml"
# What a step may start: the project's own scripts and binary, and tools that a laptop has.
TOOLS = {"apk", "cargo", "chmod", "docker", "printf", "rm", "rustup", "trivy"}
COMMANDS = {"plan", "deploy", "status"}


def github_commands():
    jobs = yaml.safe_load(GITHUB.read_text())["jobs"]
    return [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]


def gitlab_commands():
    jobs = yaml.safe_load(GITLAB.read_text())
    return [line for job in jobs.values() if isinstance(job, dict)
            for key in ("before_script", "script", "after_script") for line in job.get(key, [])]


def codebuild_commands():
    return [line for one in model.template("modules/pipeline.yaml")["Resources"].values()
            if one["Type"] == "AWS::CodeBuild::Project"
            for line in yaml.safe_load(one["Properties"]["Source"]["BuildSpec"])
            ["phases"]["build"]["commands"]]


def github_subjects(**values):
    """The subjects of tokens with which GitHub's role is taken on."""
    body = model.template("bootstrap.yaml")
    trust = model.resolver("bootstrap.yaml", values)(
        body["Resources"]["GithubRole"]["Properties"]["AssumeRolePolicyDocument"])
    return trust["Statement"][0]["Condition"]["StringLike"][
        "token.actions.githubusercontent.com:sub"]


class Pipelines(unittest.TestCase):
    def test_githubs_tokens_are_taken_with_and_without_ids(self):
        def taken(subject, **values):
            return any(fnmatch.fnmatchcase(subject, one) for one in github_subjects(**values))

        names = {"GithubRepository": "acme/orders"}
        ids = {**names, "GithubIds": "77/88"}
        for subject, by_names, by_ids in (
                ("repo:acme/orders:environment:staging", True, False),
                ("repo:acme@77/orders@88:environment:production", True, True),
                ("repo:acme@99/orders@88:environment:production", True, False),
                ("repo:acme@77/orders@88:ref:refs/heads/main", False, False),
                ("repo:acme@77/orders@88:environment:other", False, False),
                ("repo:acme2/orders:environment:staging", False, False),
                ("repo:acme@77/orders2@88:environment:staging", False, False)):
            with self.subTest(subject=subject):
                self.assertEqual((by_names, by_ids), (taken(subject, **names), taken(subject, **ids)))

    def test_every_step_is_a_command_that_a_laptop_runs(self):
        for source in (github_commands, gitlab_commands, codebuild_commands):
            commands = source()
            self.assertGreaterEqual(len(commands), 4)
            for line in commands:
                with self.subTest(line=line):
                    self.assertNotIn("\n", line.strip())
                    words = shlex.split(line)
                    if words[0] == "target/release/inlet":
                        self.assertIn(words[1], COMMANDS)
                    elif words[0].startswith("scripts/"):
                        self.assertTrue((model.REPOSITORY / words[0]).exists())
                    else:
                        self.assertIn(words[0], TOOLS)

    def test_every_pipeline_builds_tests_shows_and_deploys(self):
        for source in (github_commands, gitlab_commands, codebuild_commands):
            text = "\n".join(source())
            for wanted in ("scripts/test", "cargo build --release", "inlet plan", "inlet deploy"):
                with self.subTest(source=source.__name__, wanted=wanted):
                    self.assertIn(wanted, text)
        for source in (github_commands, gitlab_commands):
            self.assertIn("trivy image --exit-code 1", "\n".join(source()))

    def test_no_long_lived_key_is_used(self):
        for path in (GITHUB, GITLAB, model.DEPLOY / "modules" / "pipeline.yaml"):
            self.assertIsNone(re.search(r"AWS_SECRET_ACCESS_KEY|aws-secret-access-key|secrets\.AWS",
                                        path.read_text()), path)

    def test_who_deploys_signs_in_by_oidc(self):
        jobs = yaml.safe_load(GITHUB.read_text())["jobs"]
        for name in model.ENVIRONMENTS:
            self.assertEqual("write", jobs[name]["permissions"]["id-token"])
            self.assertEqual(name, jobs[name]["environment"])
        for name in ("test", "build", "scan"):
            self.assertNotIn("permissions", jobs[name])
        gitlab = yaml.safe_load(GITLAB.read_text())
        self.assertEqual("https://gitlab.com", gitlab[".deploy"]["id_tokens"]["AWS_TOKEN"]["aud"])

    def test_the_roles_believe_one_repository_and_its_environments_alone(self):
        made = model.resolve("bootstrap.yaml", {"GithubRepository": "o/r", "GitlabProject": "g/p"})
        roles = {one.path: one.properties for one in made if one.kind == "AWS::IAM::Role"}

        def believed(name):
            statement = roles[f"inlet/{name}"]["AssumeRolePolicyDocument"]["Statement"][0]
            return statement["Condition"]["StringEquals"]

        github = believed("GithubRole")
        self.assertEqual("sts.amazonaws.com", github["token.actions.githubusercontent.com:aud"])
        self.assertEqual("project_path:g/p:ref_type:branch:ref:main",
                         believed("GitlabRole")["gitlab.com:sub"])

    def test_without_a_repository_nobody_is_believed(self):
        kinds = {one.kind for one in model.resolve("bootstrap.yaml", {})}
        self.assertNotIn("AWS::IAM::OIDCProvider", kinds)

    def test_the_pipeline_asks_before_it_deploys(self):
        stages = [one["Name"] for one in model.template("modules/pipeline.yaml")
                  ["Resources"]["Pipeline"]["Properties"]["Stages"]]
        self.assertEqual(["Source", "Build", "Test", "ChangeSet", "Approval", "Deploy"], stages)

    def test_cloudformations_role_may_do_what_the_templates_need_and_no_more(self):
        granted = {action for name in (*generated.GROUPS, "ExecutionRoles")
                   for statement in model.template("bootstrap.yaml")["Resources"][name]
                   ["Properties"]["PolicyDocument"]["Statement"]
                   for action in generated.listed(statement["Action"])}
        needed = set(generated.execution_actions())
        self.assertEqual(set(), {one for one in needed - granted if not one.startswith("iam:")})
        self.assertEqual(set(), granted - needed)


if __name__ == "__main__":
    unittest.main()
