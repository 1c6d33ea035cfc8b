"""A template as CloudFormation reads it: YAML, parameters, conditions, intrinsic functions."""
import base64
import ipaddress
import json
import re

import yaml

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::NotificationARNs": [],
}
SECTIONS = {
    "AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings",
    "Conditions", "Transform", "Resources", "Outputs",
}
RESOURCE_KEYS = {
    "Type", "Properties", "Metadata", "DependsOn", "Condition", "DeletionPolicy",
    "UpdateReplacePolicy", "UpdatePolicy", "CreationPolicy",
}
# What a value is called that only exists once its resource does.
LATER = "{{changeSet:KNOWN_AFTER_APPLY}}"
NO_VALUE = object()


class Invalid(Exception):
    """What CloudFormation answers with ValidationError."""


class _Loader(yaml.SafeLoader):
    pass


def _tag(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix in ("Ref", "Condition"):
        return {suffix: value}
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{suffix}": value}


def _mapping(loader, node, deep=False):
    seen = set()
    for key, _ in node.value:
        name = loader.construct_object(key, deep=True)
        if name in seen:
            raise Invalid(f"Template format error: duplicate key {name}")
        seen.add(name)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_Loader.add_multi_constructor("!", _tag)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG,
                        lambda loader, node: _mapping(loader, node, True))
# A version such as 2010-09-09 is text.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(text):
    """The template in `text`, checked for its outer form."""
    if len(text.encode()) > 1_000_000:
        raise Invalid("Template may not exceed 1000000 bytes in size.")
    try:
        template = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise Invalid(f"Template format error: {error}") from None
    if not isinstance(template, dict):
        raise Invalid("Template format error: unsupported structure.")
    for section in template:
        if section not in SECTIONS:
            raise Invalid(f"Invalid template property or properties [{section}]")
    if not template.get("Resources"):
        raise Invalid("Template format error: At least one Resources member must be defined.")
    for name, resource in template["Resources"].items():
        if not re.fullmatch(r"[A-Za-z0-9]{1,255}", name):
            raise Invalid(f"Template format error: Resource name {name} is non alphanumeric.")
        for key in resource:
            if key not in RESOURCE_KEYS:
                raise Invalid(f"Invalid template resource property '{key}'")
        if "Type" not in resource:
            raise Invalid(f"Template format error: [/Resources/{name}] Every Resources object "
                          "must contain a Type member.")
    return template


def parameters(template, given, before=None):
    """The values of the parameters, from what was given and what was there before."""
    declared = template.get("Parameters", {})
    values, missing = {}, []
    for item in given:
        if item["ParameterKey"] not in declared:
            raise Invalid(f"Parameters: [{item['ParameterKey']}] do not exist in the template")
    given = {item["ParameterKey"]: item for item in given}
    for name, spec in declared.items():
        item = given.get(name)
        if item and str(item.get("UsePreviousValue", "")).lower() == "true":
            if name not in (before or {}):
                raise Invalid(f"Invalid input for parameter key {name}. Cannot specify usePreviousValue "
                              "as true for a parameter key not in the previous template")
            value = before[name]
        elif item and "ParameterValue" in item:
            value = item["ParameterValue"]
        elif "Default" in spec:
            value = spec["Default"]
        else:
            missing.append(name)
            continue
        values[name] = _checked(name, spec, str(value).lower() if isinstance(value, bool) else str(value))
    if missing:
        raise Invalid(f"Parameters: [{', '.join(missing)}] must have values")
    return values


def _checked(name, spec, value):
    kind = spec.get("Type", "String")
    refuse = lambda why: Invalid(f"Parameter '{name}' {spec.get('ConstraintDescription') or why}")
    items = [part.strip() for part in value.split(",")] if "List" in kind else [value]
    allowed = [str(one).lower() if isinstance(one, bool) else str(one) for one in spec.get("AllowedValues", [])]
    for item in items:
        if allowed and item not in allowed:
            raise refuse(f"must be one of AllowedValues: {allowed}")
        if "AllowedPattern" in spec and not re.fullmatch(spec["AllowedPattern"], item):
            raise refuse(f"must match pattern {spec['AllowedPattern']}")
        if kind == "Number":
            try:
                number = float(item)
            except ValueError:
                raise refuse("must be a number") from None
            if number < float(spec.get("MinValue", "-inf")) or number > float(spec.get("MaxValue", "inf")):
                raise refuse("is out of its range")
        elif not int(spec.get("MinLength", 0)) <= len(item) <= int(spec.get("MaxLength", 4096)):
            raise refuse("has a length out of its range")
    return items if "List" in kind else value


class Resolver:
    """Gives values of a template for one stack.

    `resource(logical_id)` gives the physical id, `attribute(logical_id, name)` an attribute,
    `exported(name)` what another stack exports; each may give LATER.
    """

    def __init__(self, template, values, stack, resource, attribute, exported):
        self.template, self.values, self.stack = template, values, stack
        self.resource, self.attribute, self.exported = resource, attribute, exported
        self._conditions = {}

    def condition(self, name):
        if name not in self._conditions:
            if name not in self.template.get("Conditions", {}):
                raise Invalid(f"Template format error: Unresolved condition {name}")
            self._conditions[name] = self._test(self.template["Conditions"][name])
        return self._conditions[name]

    def exists(self, logical_id):
        condition = self.template["Resources"][logical_id].get("Condition")
        return condition is None or self.condition(condition)

    def _test(self, value):
        if isinstance(value, dict) and len(value) == 1:
            (function, argument), = value.items()
            if function == "Condition":
                return self.condition(argument)
            if function == "Fn::Equals":
                left, right = (self(one) for one in argument)
                return str(left) == str(right)
            if function == "Fn::Not":
                return not self._test(argument[0])
            if function == "Fn::And":
                return all(self._test(one) for one in argument)
            if function == "Fn::Or":
                return any(self._test(one) for one in argument)
        raise Invalid(f"Template validation error: {value} is no condition")

    def __call__(self, value):
        if isinstance(value, list):
            return [one for one in map(self, value) if one is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, argument), = value.items()
            if function == "Ref":
                return self._ref(argument)
            if function == "Condition" and isinstance(argument, str) and argument in self.template.get("Conditions", {}):
                return self.condition(argument)
            if function.startswith("Fn::"):
                return self._function(function[4:], argument)
        resolved = ((key, self(one)) for key, one in value.items())
        return {key: one for key, one in resolved if one is not NO_VALUE}

    def _ref(self, name):
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self.stack.pseudo:
            return self.stack.pseudo[name]
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.values:
            return self.values[name]
        if name in self.template["Resources"]:
            if not self.exists(name):
                raise Invalid(f"Template format error: Unresolved resource dependencies [{name}] in the "
                              "Resources block of the template")
            return self.resource(name)
        raise Invalid(f"Template format error: Unresolved resource dependencies [{name}] in the Resources "
                      "block of the template")

    def _function(self, name, argument):
        if name == "If":
            condition, then, otherwise = argument
            return self(then if self.condition(condition) else otherwise)
        if name == "GetAtt":
            logical_id, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
            if logical_id not in self.template["Resources"] or not self.exists(logical_id):
                raise Invalid(f"Template error: instance of Fn::GetAtt references undefined resource {logical_id}")
            return self.attribute(logical_id, self(attribute))
        if name == "Sub":
            text, extra = argument if isinstance(argument, list) else (argument, {})
            extra = self(extra)

            def put(found):
                inner = found.group(1)
                if inner.startswith("!"):
                    return "${" + inner[1:] + "}"
                if inner in extra:
                    value = extra[inner]
                elif "." in inner and not inner.startswith("AWS::"):
                    value = self._function("GetAtt", inner.split(".", 1))
                else:
                    value = self._ref(inner)
                return str(value)

            return re.sub(r"\$\{([^}]+)\}", put, text)
        if name == "Join":
            separator, items = argument
            return separator.join(str(one) for one in self(items))
        if name == "Select":
            index, items = argument
            items = self(items)
            if isinstance(items, str):
                return LATER
            try:
                return items[int(self(index))]
            except IndexError:
                raise Invalid("Template error: Fn::Select cannot select nonexistent value") from None
        if name == "Split":
            separator, text = argument
            return self(text).split(separator)
        if name == "FindInMap":
            table, first, second = (self(one) for one in argument[:3])
            try:
                return self.template["Mappings"][table][first][second]
            except KeyError:
                if len(argument) > 3:
                    return self(argument[3]["DefaultValue"])
                raise Invalid(f"Template error: Unable to get mapping for {table}::{first}::{second}") from None
        if name == "GetAZs":
            region = self(argument) or self.stack.pseudo["AWS::Region"]
            return [region + letter for letter in "abc"]
        if name == "ImportValue":
            return self.exported(self(argument))
        if name == "Base64":
            return base64.b64encode(str(self(argument)).encode()).decode()
        if name == "Cidr":
            block, count, bits = (self(one) for one in argument)
            nets = ipaddress.ip_network(block).subnets(new_prefix=32 - int(bits))
            return [str(net) for net, _ in zip(nets, range(int(count)))]
        if name == "ToJsonString":
            return json.dumps(self(argument))
        if name == "Length":
            return len(self(argument))
        if name in ("Equals", "Not", "And", "Or"):
            return self._test({f"Fn::{name}": argument})
        raise Invalid(f"Template error: Fn::{name} is not known")


def references(value):
    """The names that a value refers to by Ref, Fn::GetAtt or Fn::Sub."""
    if isinstance(value, list):
        for one in value:
            yield from references(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key == "Ref" and isinstance(one, str):
                yield one
            elif key == "Fn::GetAtt":
                yield one[0] if isinstance(one, list) else one.split(".", 1)[0]
            elif key == "Fn::Sub":
                text, extra = one if isinstance(one, list) else (one, {})
                names = (inner.split(".", 1)[0] for inner in re.findall(r"\$\{([^!}][^}]*)\}", text))
                yield from (name for name in names if name not in extra)
                yield from references(extra)
            else:
                yield from references(one)


def order(template, names):
    """`names` of resources, each behind those it depends on."""
    after = {}
    for name in names:
        resource = template["Resources"][name]
        needs = set(references(resource.get("Properties", {})))
        explicit = resource.get("DependsOn", [])
        needs.update([explicit] if isinstance(explicit, str) else explicit)
        after[name] = {one for one in needs if one in names and one != name}
    done = []
    while after:
        ready = sorted(name for name, needs in after.items() if not needs - set(done))
        if not ready:
            raise Invalid(f"Circular dependency between resources: [{', '.join(sorted(after))}]")
        done.extend(ready)
        for name in ready:
            del after[name]
    return done
