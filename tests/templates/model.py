"""The templates of deploy/, as the tests see them: each by itself, and whole environments.

An environment is a root template with its parameter file. Its nested stacks are resolved with what
the root gives them, so that a resource is there or not there as it will be on AWS.
"""
import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
sys.path.insert(0, str(REPOSITORY / "tests" / "cloudformation"))

from template import NO_VALUE, Resolver, load, parameters  # noqa: E402

SHAPES = ("serverless", "containers")
ENVIRONMENTS = ("staging", "production")
REGION = "us-east-1"
# What the deployer gives at each deployment, and no file holds.
FROM_THE_DEPLOYER = {
    "ArtifactBucket": "inlet-bootstrap-artifacts",
    "ArtifactPrefix": "releases/r1/",
    "BoundaryArn": "arn:aws:iam::123456789012:policy/inlet-bootstrap-Boundary",
    "Release": "r1",
    "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/inlet@sha256:" + "0" * 64,
    "RepositoryArn": "arn:aws:ecr:us-east-1:123456789012:repository/inlet",
    "RegistryKeyArn": "arn:aws:kms:us-east-1:123456789012:key/0",
}
# Containers are refused in production without a domain name; the user's own goes here.
OWN_DOMAIN = {"DomainName": "inlet.example.com", "HostedZoneId": "Z0000000000000"}


@dataclass(frozen=True)
class Made:
    """A resource that an environment has: where it is written, and what it is called."""

    file: str
    path: str
    kind: str
    resource: dict
    properties: dict

    @property
    def deletion_policy(self):
        return self.resource.get("DeletionPolicy", "Delete")


class _Pseudo:
    def __init__(self, name):
        self.pseudo = {
            "AWS::Region": REGION,
            "AWS::StackName": name,
            "AWS::StackId": f"arn:aws:cloudformation:{REGION}:123456789012:stack/{name}/0a1b-2c",
        }


def files():
    """Every template, by its path below deploy/."""
    found = sorted([*DEPLOY.glob("*.yaml"), *(DEPLOY / "modules").glob("*.yaml")])
    return [str(path.relative_to(DEPLOY)) for path in found]


@lru_cache(maxsize=None)
def template(file):
    return load((DEPLOY / file).read_text())


def environment_file(environment, shape):
    return json.loads((DEPLOY / "environments" / f"{environment}.{shape}.json").read_text())


def given(environment, shape, **changed):
    """The parameters of an environment, as the deployer gives them."""
    values = {**environment_file(environment, shape)["Parameters"]}
    declared = template(f"{shape}.yaml")["Parameters"]
    values.update({key: value for key, value in FROM_THE_DEPLOYER.items() if key in declared})
    if (environment, shape) == ("production", "containers"):
        values.update(OWN_DOMAIN)
    values.update(changed)
    return values


def module_of(resource):
    """The file of a nested stack, by the end of its TemplateURL."""
    url = resource["Properties"]["TemplateURL"]["Fn::Sub"]
    return url.rsplit("${ArtifactPrefix}", 1)[1]


def resolver(file, values, name="inlet"):
    body = template(file)
    items = [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]
    checked = parameters(body, items)
    return Resolver(body, checked, _Pseudo(name), lambda one: f"<{name}/{one}>",
                    lambda one, attribute: f"<{name}/{one}.{attribute}>", lambda one: f"<{one}>")


def resolve(file, values, name="inlet"):
    """Every resource that the template and its nested stacks make with these values."""
    body, resolved, made = template(file), resolver(file, values, name), []
    for logical_id, resource in body["Resources"].items():
        if not resolved.exists(logical_id):
            continue
        properties = resolved(resource.get("Properties", {}))
        made.append(Made(file, f"{name}/{logical_id}", resource["Type"], resource, properties))
        if resource["Type"] == "AWS::CloudFormation::Stack":
            inner = {key: str(value) for key, value in properties.get("Parameters", {}).items()}
            made.extend(resolve(module_of(resource), inner, f"{name}/{logical_id}"))
    # What an output says has to be there too.
    for output in body.get("Outputs", {}).values():
        if "Condition" not in output or resolved.condition(output["Condition"]):
            assert resolved(output["Value"]) is not NO_VALUE
    return made


def environment(environment, shape, **changed):
    return resolve(f"{shape}.yaml", given(environment, shape, **changed))


def every_combination():
    """Each shape and environment, with each engine that may stand behind it."""
    for shape in SHAPES:
        for name in ENVIRONMENTS:
            for store in ("dynamodb", "aurora"):
                for cache in ("memory", "redis"):
                    changed = {"Store": store, "Cache": cache}
                    if shape == "serverless" and (store, cache) != ("dynamodb", "memory"):
                        changed["InNetwork"] = "yes"
                    yield name, shape, changed
            yield name, shape, OWN_DOMAIN
            yield name, shape, {"Waf": "count"}
            yield name, shape, {"ViewerCertificateArn": "arn:1", "WebAclArn": "arn:2", **OWN_DOMAIN}
