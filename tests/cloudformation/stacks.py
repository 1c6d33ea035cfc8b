"""Stacks: change sets, execution in the order of dependencies, events, roll-back, deletion."""
import copy
import json
import threading
import time
import urllib.parse
import uuid
from datetime import datetime, timezone

import schema
from services import ACCOUNT, Failed, random_text
from template import LATER, NO_VALUE, Invalid, Resolver, load, order, parameters, references

NESTED = "AWS::CloudFormation::Stack"
IAM = ("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy", "AWS::IAM::User",
       "AWS::IAM::Group", "AWS::IAM::InstanceProfile", "AWS::IAM::AccessKey")
IAM_NAMES = ("RoleName", "ManagedPolicyName", "UserName", "GroupName", "InstanceProfileName")
# A stack in one of these can be updated.
AT_REST = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"}
ENDED = "DELETE_COMPLETE"


def now():
    return datetime.now(timezone.utc)


class Resource:
    def __init__(self, logical_id, kind):
        self.logical_id, self.kind = logical_id, kind
        self.physical, self.attributes, self.properties = "", {}, {}
        self.status, self.reason, self.time = "", "", now()
        self.deletion_policy = self.replace_policy = "Delete"
        self.metadata = {}
        # What a test changed behind the stack's back, for drift.
        self.drifted = None


class Stack:
    def __init__(self, name, region, parent=None):
        self.name, self.parent = name, parent
        self.id = f"arn:aws:cloudformation:{region}:{ACCOUNT}:stack/{name}/{uuid.uuid4()}"
        self.pseudo = {"AWS::StackName": name, "AWS::StackId": self.id, "AWS::Region": region}
        self.status, self.reason = "REVIEW_IN_PROGRESS", ""
        self.template = {"Resources": {}}
        self.text, self.values, self.given, self.tags, self.capabilities = "", {}, [], [], []
        self.resources, self.events, self.change_sets, self.outputs = {}, [], {}, []
        self.made, self.updated, self.protected = now(), None, False
        self.cancel = threading.Event()
        self.detections = {}

    @property
    def region(self):
        return self.pseudo["AWS::Region"]


class ChangeSet:
    def __init__(self, name, stack, kind):
        self.name, self.stack, self.kind = name, stack, kind
        self.id = f"arn:aws:cloudformation:{stack.region}:{ACCOUNT}:changeSet/{name}/{uuid.uuid4()}"
        self.status, self.reason, self.execution, self.made = "CREATE_COMPLETE", "", "AVAILABLE", now()
        self.template, self.text, self.values, self.given, self.tags = {}, "", {}, [], []
        self.capabilities, self.changes, self.nested = [], [], {}
        self.parent = self.root = None


class Double:
    """The whole: stacks by name and id, and the faults that a test asked for."""

    def __init__(self, services_of, fetch, pause_s):
        self.services_of, self.fetch, self.pause_s = services_of, fetch, pause_s
        self.lock = threading.RLock()
        self.stacks, self.gone, self.faults = {}, {}, []

    # Looking things up.

    def stack(self, name, with_gone=False):
        found = self.stacks.get(name) or next((one for one in self.stacks.values() if one.id == name), None)
        if found is None and with_gone:
            found = self.gone.get(name)
        if found is None:
            raise Invalid(f"Stack with id {name} does not exist")
        return found

    def exports(self, region):
        return {export["ExportName"]: (stack, export["OutputValue"]) for stack in self.stacks.values()
                if stack.region == region for export in stack.outputs if "ExportName" in export}

    def change_set(self, name, stack_name=None):
        def within(change_sets):
            for change_set in change_sets:
                if name in (change_set.name, change_set.id):
                    return change_set
                found = within(change_set.nested.values())
                if found:
                    return found
            return None

        for stack in list(self.stacks.values()):
            if stack_name and stack_name not in (stack.name, stack.id) and not name.startswith("arn:"):
                continue
            found = within(list(stack.change_sets.values()))
            if found:
                return found
        raise NotFound(f"ChangeSet [{name}] does not exist")

    # Change sets.

    def create_change_set(self, region, arguments):
        name, kind = arguments["StackName"], arguments.get("ChangeSetType", "UPDATE")
        with self.lock:
            stack = next((one for one in self.stacks.values() if name in (one.name, one.id)), None)
            if kind == "CREATE":
                if stack and stack.status != "REVIEW_IN_PROGRESS":
                    raise Exists(f"Stack [{stack.name}] already exists and cannot be created again with the changeSet "
                                 f"[{arguments['ChangeSetName']}].")
                if stack is None:
                    stack = self.stacks[name] = Stack(name, region)
                    self.event(stack, None, "REVIEW_IN_PROGRESS", "User Initiated")
            elif stack is None:
                raise Invalid(f"Stack [{name}] does not exist")
            elif stack.status not in AT_REST:
                raise Invalid(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")
            if arguments["ChangeSetName"] in stack.change_sets:
                raise Exists(f"ChangeSet {arguments['ChangeSetName']} already exists")
            change_set = ChangeSet(arguments["ChangeSetName"], stack, kind)
            before = stack.values
            change_set.text = self.template_text(stack, arguments)
            change_set.template = load(change_set.text)
            change_set.given = arguments.get("Parameters", [])
            change_set.values = parameters(change_set.template, change_set.given, before)
            change_set.tags = arguments.get("Tags", stack.tags if arguments.get("Tags") is None else [])
            change_set.capabilities = arguments.get("Capabilities", [])
            self.check_capabilities(change_set)
            nested = str(arguments.get("IncludeNestedStacks", "false")).lower() == "true"
            change_set.changes = self.changes(change_set, nested)
            stack.change_sets[change_set.name] = change_set
            if not change_set.changes and change_set.tags == stack.tags and not self.outputs_differ(change_set):
                change_set.status, change_set.execution = "FAILED", "UNAVAILABLE"
                change_set.reason = ("The submitted information didn't contain changes. Submit different information "
                                     "to create a change set.")
            return change_set

    def template_text(self, stack, arguments):
        if str(arguments.get("UsePreviousTemplate", "false")).lower() == "true":
            return stack.text
        if arguments.get("TemplateBody"):
            if len(arguments["TemplateBody"].encode()) > 51_200:
                raise Invalid("1 validation error detected: Value at 'templateBody' failed to satisfy constraint: "
                              "Member must have length less than or equal to 51200")
            return arguments["TemplateBody"]
        if arguments.get("TemplateURL"):
            return self.fetch(stack.region, arguments["TemplateURL"])
        raise Invalid("Either Template URL or Template Body must be specified.")

    def check_capabilities(self, change_set):
        needed = set()
        for resource in change_set.template["Resources"].values():
            if resource["Type"] in IAM:
                named = any(key in resource.get("Properties", {}) for key in IAM_NAMES)
                needed.add("CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM")
        has = set(change_set.capabilities)
        if "CAPABILITY_NAMED_IAM" in has:
            has.add("CAPABILITY_IAM")
        if needed - has:
            raise Insufficient(f"Requires capabilities : [{', '.join(sorted(needed - has))}]")

    def resolver(self, stack, template, values, later=()):
        def resource(logical_id):
            known = stack.resources.get(logical_id)
            return LATER if known is None or logical_id in later or not known.physical else known.physical

        def attribute(logical_id, name):
            kind = template["Resources"][logical_id]["Type"]
            known = stack.resources.get(logical_id)
            if kind == NESTED:
                if not name.startswith("Outputs."):
                    raise Invalid(f"Template error: resource {logical_id} does not support attribute type {name}")
            elif name not in schema.attributes(kind, stack.region):
                raise Invalid(f"Template error: resource {logical_id} does not support attribute type {name} in Fn::GetAtt")
            if known is None or logical_id in later:
                return LATER
            if name in known.attributes:
                return known.attributes[name]
            if kind == NESTED:
                if known.physical:
                    child = self.stack(known.physical, True)
                    for output in child.outputs:
                        if output["OutputKey"] == name.removeprefix("Outputs."):
                            return output["OutputValue"]
                raise Invalid(f"Template error: resource {logical_id} has no output {name.removeprefix('Outputs.')}")
            return self.made_up(stack, known, name)

        def exported(name):
            found = self.exports(stack.region).get(name)
            if found is None:
                raise Invalid(f"No export named {name} found.")
            return found[1]

        return Resolver(template, values, stack, resource, attribute, exported)

    def made_up(self, stack, resource, name):
        """An attribute of a type of which only the properties are kept: stable, and of the right form."""
        service = resource.kind.split("::")[1].lower()
        if name.endswith("Arn"):
            value = f"arn:aws:{service}:{stack.region}:{ACCOUNT}:{resource.physical}"
        elif name.endswith(("Address", "DNSName", "DomainName", "Endpoint")):
            value = f"{resource.physical.lower()}.{service}.{stack.region}.amazonaws.com"
        elif name.endswith("Port"):
            value = "5432"
        else:
            value = f"{resource.physical}-{name.lower().replace('.', '-')}"
        resource.attributes[name] = value
        return value

    def wanted(self, resolver, logical_id):
        declared = resolver.template["Resources"][logical_id]
        properties = resolver(declared.get("Properties", {}))
        return {} if properties is NO_VALUE else properties

    def changes(self, change_set, nested):
        stack, template = change_set.stack, change_set.template
        for condition in template.get("Conditions", {}):
            self.resolver(stack, template, change_set.values).condition(condition)
        resolver = self.resolver(stack, template, change_set.values)
        names = [name for name in template["Resources"] if resolver.exists(name)]
        changes, later = [], set()
        for name in order(template, names):
            declared = template["Resources"][name]
            kind = declared["Type"]
            resolver = self.resolver(stack, template, change_set.values, later)
            wanted = self.wanted(resolver, name)
            schema.check(kind, stack.region, name, wanted)
            known = stack.resources.get(name)
            change = {"LogicalResourceId": name, "ResourceType": kind}
            if known is None:
                later.add(name)
                changes.append({**change, "Action": "Add"})
            else:
                change["PhysicalResourceId"] = known.physical
                if kind != known.kind:
                    raise Invalid(f"Update of resource type is not permitted. The new template modifies resource "
                                  f"type of the following resources: [{name}]")
                details, replaces = self.details(stack, change_set, known, declared, wanted, later)
                if declared.get("Metadata", {}) != known.metadata:
                    details.append({"Target": {"Attribute": "Metadata", "RequiresRecreation": "Never"},
                                    "Evaluation": "Static", "ChangeSource": "DirectModification"})
                if declared.get("DeletionPolicy", "Delete") != known.deletion_policy:
                    details.append({"Target": {"Attribute": "DeletionPolicy", "RequiresRecreation": "Never"},
                                    "Evaluation": "Static", "ChangeSource": "DirectModification"})
                child = None
                if nested and kind == NESTED:
                    child = self.nested_changes(change_set, known, wanted)
                if details or (child and child.changes):
                    if replaces == "True":
                        later.add(name)
                    scope = sorted({detail["Target"]["Attribute"] for detail in details})
                    change.update(Action="Modify", Replacement=replaces, Scope=scope, Details=details)
                    if replaces == "True":
                        change["PolicyAction"] = {"Delete": "ReplaceAndDelete", "Retain": "ReplaceAndRetain",
                                                  "Snapshot": "ReplaceAndSnapshot"}[known.replace_policy]
                    if child:
                        change["ChangeSetId"] = child.id
                    changes.append(change)
            if nested and kind == NESTED and known is None:
                child = self.nested_changes(change_set, None, wanted, name)
                changes[-1]["ChangeSetId"] = child.id
        for name, known in stack.resources.items():
            if name not in names:
                policy = {"Delete": "Delete", "Retain": "Retain", "Snapshot": "Snapshot",
                          "RetainExceptOnCreate": "Retain"}[known.deletion_policy]
                changes.append({"LogicalResourceId": name, "ResourceType": known.kind, "Action": "Remove",
                                "PhysicalResourceId": known.physical, "PolicyAction": policy})
        return changes

    def nested_changes(self, change_set, known, wanted, name=None):
        """The change set of a nested stack, named by its parent's."""
        stack = change_set.stack
        child = self.stack(known.physical) if known else Stack(f"{stack.name}-{name}", stack.region, stack)
        inner = ChangeSet(f"{change_set.name}-{random_text(6)}", child, "UPDATE" if known else "CREATE")
        inner.text = self.fetch(stack.region, wanted["TemplateURL"])
        inner.template = load(inner.text)
        inner.given = [{"ParameterKey": key, "ParameterValue": value}
                       for key, value in wanted.get("Parameters", {}).items()]
        declared = inner.template.get("Parameters", {})
        for item in inner.given:
            spec = declared.get(item["ParameterKey"], {})
            if item["ParameterValue"] == LATER and "AllowedPattern" in spec:
                del spec["AllowedPattern"]
        inner.values = parameters(inner.template, inner.given, child.values)
        inner.capabilities, inner.parent = change_set.capabilities, change_set.id
        inner.root = change_set.root or change_set.id
        self.check_capabilities(inner)
        inner.changes = self.changes(inner, True)
        change_set.nested[inner.id] = inner
        child.change_sets[inner.name] = inner
        return inner

    def details(self, stack, change_set, known, declared, wanted, later):
        details, replaces = [], "False"
        source_of = declared.get("Properties", {})
        for name in sorted(set(wanted) | set(known.properties)):
            before, after = known.properties.get(name), wanted.get(name)
            if before == after or (before is not None and after is not None and str(before) == str(after)):
                continue
            recreation = schema.replacement(known.kind, stack.region, list(_differing(name, before, after)))
            dynamic = LATER in str(after)
            details.append({
                "Target": {"Attribute": "Properties", "Name": name, "RequiresRecreation": recreation,
                           "Path": f"/Properties/{name}", "BeforeValue": _text(before), "AfterValue": _text(after),
                           "AttributeChangeType": "Add" if before is None else "Remove" if after is None else "Modify"},
                "Evaluation": "Dynamic" if dynamic else "Static", **_source(change_set, source_of.get(name), later)})
            if recreation == "Always":
                replaces = "Conditional" if dynamic and replaces != "True" else "True"
            elif recreation == "Conditionally" and replaces == "False":
                replaces = "Conditional"
        return details, replaces

    def outputs_differ(self, change_set):
        stack = change_set.stack
        if stack.status == "REVIEW_IN_PROGRESS":
            return True
        return change_set.template.get("Outputs", {}) != stack.template.get("Outputs", {})

    # Execution.

    def execute(self, change_set):
        stack = change_set.stack
        with self.lock:
            if change_set.execution != "AVAILABLE":
                raise InvalidState(f"ChangeSet [{change_set.id}] cannot be executed in its current status of "
                                   f"[{change_set.status}]")
            change_set.execution = "EXECUTE_IN_PROGRESS"
            if stack.status != "REVIEW_IN_PROGRESS" and stack.status not in AT_REST:
                raise InvalidState(f"Stack {stack.name} is in {stack.status} state and can not be updated")
            self.event(stack, None, "CREATE_IN_PROGRESS" if change_set.kind == "CREATE" else "UPDATE_IN_PROGRESS",
                       "User Initiated")
        threading.Thread(target=self.run, args=(change_set,), daemon=True).start()

    def run(self, change_set):
        stack = change_set.stack
        stack.cancel.clear()
        try:
            self.apply(stack, change_set.template, change_set.text, change_set.values, change_set.given,
                       change_set.tags, change_set.capabilities, creating=change_set.kind == "CREATE")
            change_set.execution = "EXECUTE_COMPLETE"
        except Exception as error:  # What the double did not foresee ends the stack, and is told.
            change_set.execution = "EXECUTE_FAILED"
            self.event(stack, None, "UPDATE_FAILED", f"the double failed: {error!r}")
        finally:
            stack.change_sets.clear()

    def apply(self, stack, template, text, values, given, tags, capabilities, creating):
        """Brings the stack to the template; on a failure, back to where it was. True if it went well."""
        before = copy.deepcopy({name: resource for name, resource in stack.resources.items()})
        old = (stack.template, stack.text, stack.values, stack.given, stack.tags, stack.outputs)
        verb = "CREATE" if creating else "UPDATE"
        stack.tags_to_be = tags or []
        replaced = []
        try:
            resolver = self.resolver(stack, template, values)
            names = [name for name in template["Resources"] if resolver.exists(name)]
            for name in order(template, names):
                if stack.cancel.is_set():
                    raise Failed("Resource update cancelled")
                self.bring(stack, template, values, name, replaced, capabilities)
            stack.template, stack.text, stack.values = template, text, values
            stack.given, stack.tags, stack.capabilities = given, tags, capabilities
            stack.outputs = self.outputs(stack, template, values)
        except (Failed, Invalid) as failure:
            self.roll_back(stack, before, old, replaced, creating, str(failure))
            return False
        if not creating:
            self.event(stack, None, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        for resource, policy in replaced:
            self.let_go(stack, resource, policy)
        for name in [name for name in reversed(list(stack.resources)) if name not in names]:
            resource = stack.resources[name]
            try:
                self.let_go(stack, resource, resource.deletion_policy)
            except Failed:
                pass  # As CloudFormation: what can't be cleaned up stays, and the update is complete.
            stack.resources.pop(name, None)
        stack.updated = None if creating else now()
        self.event(stack, None, f"{verb}_COMPLETE")
        return True

    def bring(self, stack, template, values, name, replaced, capabilities):
        """Makes or changes one resource."""
        declared = template["Resources"][name]
        kind = declared["Type"]
        wanted = self.wanted(self.resolver(stack, template, values), name)
        known = stack.resources.get(name)
        if known is None:
            resource = stack.resources[name] = Resource(name, kind)
            self.keep_policies(resource, declared)
            self.make(stack, resource, wanted, capabilities, "CREATE")
            return
        changed = [key for key in set(wanted) | set(known.properties)
                   if str(wanted.get(key)) != str(known.properties.get(key))]
        anew = any(schema.replacement(kind, stack.region,
                                      list(_differing(key, known.properties.get(key), wanted.get(key)))) == "Always"
                   for key in changed)
        self.keep_policies(known, declared)
        if kind == NESTED:
            self.make(stack, known, wanted, capabilities, "UPDATE")
        elif anew:
            old = copy.deepcopy(known)
            self.event(stack, known, "UPDATE_IN_PROGRESS",
                       "Requested update requires the creation of a new physical resource; hence creating one.")
            self.make(stack, known, wanted, capabilities, "UPDATE", anew=True)
            replaced.append((old, known.replace_policy))
        elif changed:
            self.make(stack, known, wanted, capabilities, "UPDATE")

    def keep_policies(self, resource, declared):
        resource.deletion_policy = declared.get("DeletionPolicy", "Delete")
        resource.replace_policy = declared.get("UpdateReplacePolicy", "Delete")
        resource.metadata = declared.get("Metadata", {})

    def make(self, stack, resource, wanted, capabilities, verb, anew=False):
        resource_event = lambda status, reason="": self.event(stack, resource, status, reason)
        if not anew:
            resource_event(f"{verb}_IN_PROGRESS")
        try:
            self.fault(stack, resource, verb.lower())
            if resource.kind == NESTED:
                self.make_nested(stack, resource, wanted, capabilities, verb == "CREATE")
            else:
                kind = self.services_of(stack.region).kind(resource.kind)
                kind.stack_tags = stack.tags_to_be
                if verb == "CREATE" or anew:
                    name = f"{stack.name}-{resource.logical_id}"
                    resource.physical, resource.attributes = kind.create(wanted, name)
                    resource_event(f"{verb}_IN_PROGRESS", "Resource creation Initiated")
                else:
                    resource.attributes.update(kind.update(resource.physical, wanted) or {})
                time.sleep(self.pause_s)
        except Failed as failure:
            resource_event(f"{verb}_FAILED", str(failure))
            raise Failed(f"The following resource(s) failed to {verb.lower()}: [{resource.logical_id}]. ") from None
        resource.properties = wanted
        resource_event(f"{verb}_COMPLETE")

    def make_nested(self, stack, resource, wanted, capabilities, creating):
        if creating:
            child = Stack(f"{stack.name}-{resource.logical_id}-{random_text()}", stack.region, stack)
            self.stacks[child.name] = child
            resource.physical = child.id
            self.event(child, None, "CREATE_IN_PROGRESS", "User Initiated")
        else:
            child = self.stack(resource.physical)
            self.event(child, None, "UPDATE_IN_PROGRESS", "User Initiated")
        try:
            text = self.fetch(stack.region, wanted["TemplateURL"])
            template = load(text)
            given = [{"ParameterKey": key, "ParameterValue": value if isinstance(value, str) else
                      ",".join(value) if isinstance(value, list) else str(value)}
                     for key, value in wanted.get("Parameters", {}).items()]
            values = parameters(template, given, child.values)
        except Invalid as error:
            self.event(child, None, "CREATE_FAILED" if creating else "UPDATE_ROLLBACK_COMPLETE", str(error))
            raise Failed(str(error)) from None
        tags = {one["Key"]: one for one in [*stack.tags_to_be, *wanted.get("Tags", [])]}
        if not self.apply(child, template, text, values, given, list(tags.values()), capabilities, creating):
            raise Failed(f"Embedded stack {child.id} was not successfully "
                         f"{'created' if creating else 'updated'}: {child.reason}")
        resource.attributes = {f"Outputs.{output['OutputKey']}": output["OutputValue"] for output in child.outputs}

    def roll_back(self, stack, before, old, replaced, creating, why):
        prefix = "ROLLBACK" if creating else "UPDATE_ROLLBACK"
        self.event(stack, None, f"{prefix}_IN_PROGRESS", why + "Rollback requested by user." * stack.cancel.is_set())
        try:
            self.fault(stack, Resource(stack.name, NESTED), "rollback")
            for name in reversed(list(stack.resources)):
                resource = stack.resources[name]
                was = before.get(name)
                if was is None:
                    if resource.physical:
                        self.remove(stack, resource, resource.deletion_policy == "Retain" and not creating)
                    if not creating:
                        del stack.resources[name]
                elif str(was.properties) != str(resource.properties) or resource.status.endswith("FAILED"):
                    self.fault(stack, resource, "rollback")
                    if resource.physical != was.physical:
                        self.remove(stack, resource, False)
                    elif resource.kind != NESTED:
                        self.services_of(stack.region).kind(resource.kind).update(was.physical, was.properties)
                    stack.resources[name] = was
                    self.event(stack, was, "UPDATE_COMPLETE")
            (stack.template, stack.text, stack.values, stack.given, stack.tags, stack.outputs) = old
        except Failed as failure:
            self.event(stack, None, f"{prefix}_FAILED", str(failure))
            return
        self.event(stack, None, f"{prefix}_COMPLETE")

    def remove(self, stack, resource, keep):
        if keep:
            self.event(stack, resource, "DELETE_SKIPPED")
            return
        self.event(stack, resource, "DELETE_IN_PROGRESS")
        try:
            self.fault(stack, resource, "delete")
            if resource.kind == NESTED:
                child = self.stack(resource.physical, True)
                if child.status != ENDED and not self.tear_down(child, ()):
                    raise Failed(f"Embedded stack {child.id} was not successfully deleted: {child.reason}")
            else:
                self.services_of(stack.region).kind(resource.kind).delete(resource.physical, resource.properties)
            time.sleep(self.pause_s)
        except Failed as failure:
            self.event(stack, resource, "DELETE_FAILED", str(failure))
            raise Failed(f"The following resource(s) failed to delete: [{resource.logical_id}]. ") from None
        self.event(stack, resource, "DELETE_COMPLETE")

    def let_go(self, stack, resource, policy):
        self.remove(stack, resource, policy == "Retain")

    # Deletion.

    def delete(self, name, retain):
        stack = self.stacks.get(name) or next((one for one in self.stacks.values() if one.id == name), None)
        if stack is None:
            return  # As CloudFormation: nothing to delete is no error.
        if stack.protected:
            raise Invalid(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        if retain and stack.status != "DELETE_FAILED":
            raise Invalid("Invalid operation on stack. RetainResources is allowed only in DELETE_FAILED.")
        imports = [one.name for one in self.stacks.values() if one is not stack
                   for output in stack.outputs if "ExportName" in output and output["ExportName"] in one.text]
        if imports:
            raise Invalid(f"Export cannot be deleted as it is in use by {', '.join(imports)}")
        self.event(stack, None, "DELETE_IN_PROGRESS", "User Initiated")
        threading.Thread(target=self.tear_down, args=(stack, retain), daemon=True).start()

    def tear_down(self, stack, retain):
        if stack.status != "DELETE_IN_PROGRESS":
            self.event(stack, None, "DELETE_IN_PROGRESS")
        failed = []
        for name in reversed(list(stack.resources)):
            resource = stack.resources[name]
            if not resource.physical or resource.status == "DELETE_COMPLETE":
                continue
            keep = name in retain or resource.deletion_policy in ("Retain", "RetainExceptOnCreate")
            if resource.deletion_policy == "RetainExceptOnCreate" and stack.status.startswith("ROLLBACK"):
                keep = False
            try:
                self.remove(stack, resource, keep)
            except Failed:
                failed.append(name)
        if failed:
            self.event(stack, None, "DELETE_FAILED",
                       f"The following resource(s) failed to delete: [{', '.join(failed)}]. ")
            return False
        with self.lock:
            self.event(stack, None, ENDED)
            self.stacks.pop(stack.name, None)
            self.gone[stack.id] = stack
        return True

    # Events and faults.

    def event(self, stack, resource, status, reason=""):
        moment = now()
        if resource is None:
            stack.status, stack.reason = status, reason
        else:
            resource.status, resource.reason, resource.time = status, reason, moment
        stack.events.append({
            "StackId": stack.id, "StackName": stack.name, "EventId": str(uuid.uuid4()), "Timestamp": moment,
            "LogicalResourceId": resource.logical_id if resource else stack.name,
            "PhysicalResourceId": resource.physical if resource else stack.id,
            "ResourceType": resource.kind if resource else NESTED,
            "ResourceStatus": status, **({"ResourceStatusReason": reason} if reason else {})})

    def fault(self, stack, resource, operation):
        """Fails where a test asked for it: {"logical_id", "operation", "reason", "times",
        "hang_s", "stack": what its name begins with}."""
        for fault in self.faults:
            if fault["operation"] != operation or fault["logical_id"] not in (resource.logical_id, "*"):
                continue
            if not stack.name.startswith(fault.get("stack", "")) or fault.setdefault("times", 1) <= 0:
                continue
            fault["times"] -= 1
            ends = time.monotonic() + fault.get("hang_s", 0)
            while time.monotonic() < ends and not stack.cancel.is_set():
                time.sleep(0.01)
            if fault.get("reason"):
                raise Failed(fault["reason"])

    def outputs(self, stack, template, values):
        resolver = self.resolver(stack, template, values)
        outputs = []
        for key, declared in template.get("Outputs", {}).items():
            if "Condition" in declared and not resolver.condition(declared["Condition"]):
                continue
            value = resolver(declared["Value"])
            output = {"OutputKey": key, "OutputValue": ",".join(value) if isinstance(value, list) else str(value)}
            if "Description" in declared:
                output["Description"] = declared["Description"]
            if "Export" in declared:
                output["ExportName"] = resolver(declared["Export"]["Name"])
                other = self.exports(stack.region).get(output["ExportName"])
                if other and other[0] is not stack:
                    raise Invalid(f"Export with name {output['ExportName']} is already exported by stack {other[0].name}")
            outputs.append(output)
        return outputs


class NotFound(Exception):
    code = "ChangeSetNotFound"


class Exists(Exception):
    code = "AlreadyExistsException"


class Insufficient(Exception):
    code = "InsufficientCapabilitiesException"


class InvalidState(Exception):
    code = "InvalidChangeSetStatus"


def _differing(name, before, after):
    """The path to the one place in which two values of a property differ."""
    yield name
    while isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in {*before, *after} if str(before.get(key)) != str(after.get(key))]
        if len(keys) != 1:
            return
        yield keys[0]
        before, after = before.get(keys[0]), after.get(keys[0])


def _text(value):
    return None if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def _source(change_set, declared, later):
    names = set(references(declared))
    for name in sorted(names):
        if name in change_set.values:
            return {"ChangeSource": "ParameterReference", "CausingEntity": name}
    for name in sorted(names):
        if name in change_set.template["Resources"]:
            return {"ChangeSource": "ResourceReference", "CausingEntity": name}
    return {"ChangeSource": "DirectModification"}


def bucket_and_key(url):
    """What a template's URL names: path style, or the bucket before the host."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.split(":")[0]
    if ".s3." in host or host.endswith(".s3.amazonaws.com"):
        return host.split(".s3")[0], urllib.parse.unquote(parts.path.lstrip("/"))
    bucket, _, key = parts.path.lstrip("/").partition("/")
    return bucket, urllib.parse.unquote(key)
