"""What the resource schemas, which cfn-lint carries, say of types and properties."""
from functools import lru_cache

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from template import LATER, Invalid


@lru_cache(maxsize=None)
def of(kind, region):
    if kind.startswith("Custom::") or kind == "AWS::CloudFormation::CustomResource":
        raise Invalid(f"Template format error: Unrecognized resource types: [{kind}]")
    try:
        return PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, kind).schema
    except Exception:
        raise Invalid(f"Template format error: Unrecognized resource types: [{kind}]") from None


def attributes(kind, region):
    """The names that Fn::GetAtt may ask for."""
    of(kind, region)
    return set(PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, kind).get_atts)


def check(kind, region, logical_id, properties):
    """Refuses properties that are unknown, missing or of a value that is not allowed."""
    root = of(kind, region)
    faults = list(_faults(root, root, properties, "#"))
    if faults:
        raise Invalid(f"Properties validation failed for resource {logical_id} with message:\n"
                      + "\n".join(faults))


def _faults(root, schema, value, path):
    while "$ref" in schema:
        target = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = target
    if isinstance(value, dict):
        known = schema.get("properties")
        if known:
            for key, one in value.items():
                if key in known:
                    yield from _faults(root, known[key], one, f"{path}/{key}")
                elif schema.get("additionalProperties") is False and not schema.get("patternProperties"):
                    yield f"{path}: extraneous key [{key}] is not permitted"
            for key in schema.get("required", []):
                if key not in value:
                    yield f"{path}: required key [{key}] not found"
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _faults(root, schema.get("items", {}) if isinstance(schema.get("items"), dict) else {},
                               one, f"{path}/{index}")
    elif "enum" in schema and value != LATER and str(value).lower() not in {str(one).lower() for one in schema["enum"]}:
        yield f"{path}: {value} is not a valid enum value"


def replacement(kind, region, path):
    """Whether a change at `path` (Properties names, from the outside in) makes the resource anew:
    Never, Conditionally or Always."""
    schema = of(kind, region)
    text = "/properties/" + "/".join(path)
    within = lambda names: any(text == name or text.startswith(name + "/") or name.startswith(text + "/")
                               for name in (one.replace("/*", "") for one in schema.get(names, [])))
    if within("createOnlyProperties"):
        return "Always"
    return "Conditionally" if within("conditionalCreateOnlyProperties") else "Never"
