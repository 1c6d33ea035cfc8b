#!/usr/bin/env python3
"""A test double of CloudFormation in front of moto, on one address.

    python tests/cloudformation/serve.py --port 5000 [--pause-ms 20]

Requests that are signed for CloudFormation are answered here; all others go to moto's own services,
through which the stacks' resources are made. Beside Amazon's API there is one for tests:

    POST /double/faults   {"logical_id": "Table", "operation": "create", "reason": "…", "times": 1}
                          stack: what the stack's name begins with; operation: create, update, delete, rollback; hang_s keeps it in progress;
                          operation "api" answers a CloudFormation call itself with an error:
                          {"logical_id": "ExecuteChangeSet", "operation": "api", "code": "Throttling"}
    DELETE /double/faults
    POST /double/drift    {"stack": "…", "logical_id": "…", "property": "…", "value": …}
    GET  /double/runs     the migrations that ran: functions that were called and tasks that were run, each with
                          how many copies of each service were wanted at that moment; a fault of the operation
                          "run" lets the next one fail
    GET  /double/resources   every resource with the properties it was made with
"""
import argparse
import io
import json
import os
import re
import signal
import sys
import threading
import uuid
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).parent))
# Roles refer to policies that Amazon keeps.
os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")

import boto3  # noqa: E402
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

import schema  # noqa: E402
from services import Services  # noqa: E402
from stacks import (Double, Exists, Insufficient, InvalidState, NotFound, bucket_and_key)  # noqa: E402
from template import Invalid, load  # noqa: E402

NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"


def nested(form):
    """The arguments of a query request: Parameters.member.1.ParameterKey and so on."""
    root = {}
    for key, value in form:
        at = root
        steps = key.split(".")
        for step in steps[:-1]:
            at = at.setdefault(step, {})
        at[steps[-1]] = value

    def lists(value):
        if not isinstance(value, dict):
            return value
        if set(value) == {"member"} and isinstance(value["member"], dict):
            return [lists(one) for _, one in sorted(value["member"].items(), key=lambda item: int(item[0]))]
        return {key: lists(one) for key, one in value.items()}

    return lists(root)


def xml(value):
    if isinstance(value, dict):
        return "".join(f"<{key}>{xml(one)}</{key}>" for key, one in value.items() if one is not None)
    if isinstance(value, (list, tuple)):
        return "".join(f"<member>{xml(one)}</member>" for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03}Z"
    return escape(str(value))


class Api:
    """Amazon's calls, by their names."""

    def __init__(self, double):
        self.double = double

    def CreateChangeSet(self, region, a):
        made = self.double.create_change_set(region, a)
        return {"Id": made.id, "StackId": made.stack.id}

    def DescribeChangeSet(self, region, a):
        found = self.double.change_set(a["ChangeSetName"], a.get("StackName"))
        return {
            "ChangeSetName": found.name, "ChangeSetId": found.id, "StackId": found.stack.id,
            "StackName": found.stack.name, "Status": found.status, "StatusReason": found.reason or None,
            "ExecutionStatus": found.execution, "CreationTime": found.made, "Capabilities": found.capabilities,
            "Parameters": _parameters(found.values), "Tags": found.tags,
            "ParentChangeSetId": found.parent, "RootChangeSetId": found.root,
            "IncludeNestedStacks": bool(found.nested),
            "Changes": [{"Type": "Resource", "ResourceChange": change} for change in found.changes],
        }

    def ListChangeSets(self, region, a):
        sets = self.double.stack(a["StackName"]).change_sets.values()
        return {"Summaries": [{"StackId": one.stack.id, "StackName": one.stack.name, "ChangeSetId": one.id,
                               "ChangeSetName": one.name, "Status": one.status, "ExecutionStatus": one.execution,
                               "CreationTime": one.made} for one in sets]}

    def DeleteChangeSet(self, region, a):
        try:
            found = self.double.change_set(a["ChangeSetName"], a.get("StackName"))
        except NotFound:
            return {}
        del found.stack.change_sets[found.name]
        return {}

    def ExecuteChangeSet(self, region, a):
        self.double.execute(self.double.change_set(a["ChangeSetName"], a.get("StackName")))
        return {}

    def DescribeStacks(self, region, a):
        if a.get("StackName"):
            return {"Stacks": [_stack(self.double.stack(a["StackName"], a["StackName"].startswith("arn:")))]}
        return {"Stacks": [_stack(one) for one in self.double.stacks.values() if one.region == region]}

    def ListStacks(self, region, a):
        every = [*self.double.stacks.values(), *self.double.gone.values()]
        wanted = a.get("StackStatusFilter")
        return {"StackSummaries": [{key: value for key, value in _stack(one).items()
                                    if key in ("StackId", "StackName", "StackStatus", "CreationTime", "ParentId")}
                                   for one in every if not wanted or one.status in wanted]}

    def DescribeStackEvents(self, region, a):
        events = list(reversed(self.double.stack(a["StackName"], True).events))
        start = int(a.get("NextToken", 0))
        page = events[start:start + 100]
        more = str(start + 100) if len(events) > start + 100 else None
        return {"StackEvents": page, "NextToken": more}

    def DescribeStackResources(self, region, a):
        stack = self.double.stack(a["StackName"], True)
        return {"StackResources": [{"StackName": stack.name, "StackId": stack.id, **_resource(one),
                                    "Timestamp": one.time} for one in stack.resources.values()]}

    def DescribeStackResource(self, region, a):
        stack = self.double.stack(a["StackName"], True)
        found = stack.resources.get(a["LogicalResourceId"])
        if found is None:
            raise Invalid(f"Resource {a['LogicalResourceId']} does not exist for stack {stack.name}")
        return {"StackResourceDetail": {"StackName": stack.name, "StackId": stack.id, **_resource(found),
                                        "LastUpdatedTimestamp": found.time, "Metadata": json.dumps(found.metadata)}}

    def ListStackResources(self, region, a):
        stack = self.double.stack(a["StackName"], True)
        return {"StackResourceSummaries": [{**_resource(one), "LastUpdatedTimestamp": one.time}
                                           for one in stack.resources.values()]}

    def GetTemplate(self, region, a):
        if a.get("ChangeSetName"):
            return {"TemplateBody": self.double.change_set(a["ChangeSetName"], a.get("StackName")).text}
        return {"TemplateBody": self.double.stack(a["StackName"]).text}

    def GetTemplateSummary(self, region, a):
        text = self._text(region, a)
        template = load(text)
        return {"Parameters": [{"ParameterKey": key, "ParameterType": spec.get("Type"),
                                "DefaultValue": spec.get("Default"), "Description": spec.get("Description")}
                               for key, spec in template.get("Parameters", {}).items()],
                "ResourceTypes": sorted({one["Type"] for one in template["Resources"].values()})}

    def ValidateTemplate(self, region, a):
        template = load(self._text(region, a))
        for resource in template["Resources"].values():
            schema.of(resource["Type"], region)
        return {"Parameters": [{"ParameterKey": key, "DefaultValue": spec.get("Default")}
                               for key, spec in template.get("Parameters", {}).items()],
                "Description": template.get("Description")}

    def _text(self, region, a):
        if a.get("StackName"):
            return self.double.stack(a["StackName"]).text
        return self.double.template_text(type("Place", (), {"region": region, "text": ""})(), a)

    def DeleteStack(self, region, a):
        self.double.delete(a["StackName"], a.get("RetainResources") or ())
        return {}

    def CancelUpdateStack(self, region, a):
        stack = self.double.stack(a["StackName"])
        if stack.status != "UPDATE_IN_PROGRESS":
            raise Invalid(f"CancelUpdateStack cannot be called from current stack status {stack.status}")
        stack.cancel.set()
        return {}

    def ContinueUpdateRollback(self, region, a):
        stack = self.double.stack(a["StackName"])
        if stack.status != "UPDATE_ROLLBACK_FAILED":
            raise Invalid(f"Stack:{stack.id} is in {stack.status} state and can not be continued.")
        self.double.event(stack, None, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        for name in [name for name, one in stack.resources.items() if not one.physical]:
            del stack.resources[name]
        self.double.event(stack, None, "UPDATE_ROLLBACK_COMPLETE")
        return {}

    def UpdateTerminationProtection(self, region, a):
        stack = self.double.stack(a["StackName"])
        stack.protected = str(a["EnableTerminationProtection"]).lower() == "true"
        return {"StackId": stack.id}

    def ListExports(self, region, a):
        return {"Exports": [{"Name": name, "Value": value, "ExportingStackId": stack.id}
                            for name, (stack, value) in self.double.exports(region).items()]}

    def DetectStackDrift(self, region, a):
        stack = self.double.stack(a["StackName"])
        detection = str(uuid.uuid4())
        drifted = sum(1 for one in stack.resources.values() if one.drifted)
        stack.detections[detection] = drifted
        return {"StackDriftDetectionId": detection}

    def DescribeStackDriftDetectionStatus(self, region, a):
        for stack in self.double.stacks.values():
            if a["StackDriftDetectionId"] in stack.detections:
                drifted = stack.detections[a["StackDriftDetectionId"]]
                return {"StackId": stack.id, "StackDriftDetectionId": a["StackDriftDetectionId"],
                        "StackDriftStatus": "DRIFTED" if drifted else "IN_SYNC", "DetectionStatus": "DETECTION_COMPLETE",
                        "DriftedStackResourceCount": drifted, "Timestamp": datetime.now(timezone.utc)}
        raise Invalid("no such drift detection")

    def DescribeStackResourceDrifts(self, region, a):
        stack = self.double.stack(a["StackName"])
        drifts = []
        for one in stack.resources.values():
            differences = [{"PropertyPath": f"/{name}", "ExpectedValue": json.dumps(one.properties.get(name), default=str),
                            "ActualValue": json.dumps(value), "DifferenceType": "NOT_EQUAL"}
                           for name, value in (one.drifted or {}).items()]
            drifts.append({"StackId": stack.id, **{key: value for key, value in _resource(one).items()
                                                   if key not in ("ResourceStatus", "ResourceStatusReason")},
                           "StackResourceDriftStatus": "MODIFIED" if differences else "IN_SYNC",
                           "PropertyDifferences": differences, "Timestamp": one.time})
        wanted = a.get("StackResourceDriftStatusFilters")
        return {"StackResourceDrifts": [one for one in drifts
                                        if not wanted or one["StackResourceDriftStatus"] in wanted]}


def _parameters(values):
    return [{"ParameterKey": key, "ParameterValue": ",".join(value) if isinstance(value, list) else value}
            for key, value in values.items()]


def _resource(one):
    return {"LogicalResourceId": one.logical_id, "PhysicalResourceId": one.physical or None,
            "ResourceType": one.kind, "ResourceStatus": one.status, "ResourceStatusReason": one.reason or None}


def _stack(stack):
    return {
        "StackId": stack.id, "StackName": stack.name, "StackStatus": stack.status,
        "StackStatusReason": stack.reason or None, "CreationTime": stack.made, "LastUpdatedTime": stack.updated,
        "Parameters": _parameters(stack.values), "Outputs": stack.outputs, "Tags": stack.tags,
        "Capabilities": stack.capabilities, "EnableTerminationProtection": stack.protected,
        "DisableRollback": False, "ParentId": stack.parent.id if stack.parent else None,
        "RootId": stack.parent.id if stack.parent else None,
    }


class Front:
    """Sends each request to CloudFormation's double, to the tests' own API, or to moto."""

    def __init__(self, double_of):
        self.double_of, self.doubles, self.lock, self.faults = double_of, {}, threading.Lock(), []
        self.runs = []
        self.moto = DomainDispatcherApplication(create_backend_app)

    def double(self, region):
        """The double of a region: what is in one is not seen from another."""
        with self.lock:
            if region not in self.doubles:
                self.doubles[region] = self.double_of()
                self.doubles[region].faults = self.faults
            return self.doubles[region]

    def every_stack(self):
        return [stack for double in list(self.doubles.values()) for stack in list(double.stacks.values())]

    def __call__(self, environ, start_response):
        path = environ.get("PATH_INFO", "")
        if path.startswith("/double/"):
            return self.own(environ, start_response, path)
        scope = re.search(r"Credential=([^/]*)/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        if scope and scope.group(3) in ("lambda", "ecs"):
            answer = self.run(environ, path, scope.group(3), scope.group(2))
            if answer is not None:
                return self.answer(start_response, "200 OK", json.dumps(answer), "application/json")
        if not scope or scope.group(3) != "cloudformation":
            return self.moto(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
        arguments = nested(parse_qsl(body, keep_blank_values=True))
        action = arguments.pop("Action", "")
        try:
            for fault in self.faults:
                if (fault["operation"] == "api" and fault["logical_id"] == action
                        and fault.get("stack", "") in arguments.get("StackName", "") and fault.setdefault("times", 1) > 0):
                    fault["times"] -= 1
                    return self.error(start_response, fault.get("code", "InternalFailure"), fault.get("reason", "asked for"),
                                      fault.get("status", 400))
            if scope.group(1) == "expired":
                return self.error(start_response, "ExpiredToken",
                                  "The security token included in the request is expired", 403)
            call = getattr(Api(self.double(scope.group(2))), action, None)
            if call is None or action.startswith("_"):
                return self.error(start_response, "InvalidAction", f"Could not find operation {action}")
            result = xml(call(scope.group(2), arguments))
        except Invalid as error:
            return self.error(start_response, "ValidationError", str(error))
        except (Exists, Insufficient, InvalidState, NotFound) as error:
            return self.error(start_response, error.code, str(error))
        text = (f'<{action}Response xmlns="{NAMESPACE}"><{action}Result>{result}</{action}Result>'
                f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>")
        return self.answer(start_response, "200 OK", text, "text/xml")

    def error(self, start_response, code, message, status=400):
        text = (f'<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>Sender</Type><Code>{escape(code)}</Code>'
                f"<Message>{escape(message)}</Message></Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>")
        return self.answer(start_response, f"{status} Refused", text, "text/xml")

    def run(self, environ, path, service, region):
        """Answers for what would run a function or a task; moto would want a machine for it."""
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rsplit(".", 1)[-1]
        if service == "lambda" and path.endswith("/invocations"):
            failed = self.noted(path.split("/")[-2], region)
            return {"errorType": "Failed", "errorMessage": failed} if failed else {"applied": []}
        if operation not in ("RunTask", "DescribeTasks"):
            return None
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"], said = io.BytesIO(body), json.loads(body)
        if operation == "RunTask":
            failed = self.noted(said["taskDefinition"], region)
            return {"tasks": [{"taskArn": f"double-{1 if failed else 0}-{failed or ''}"}], "failures": []}
        if not said["tasks"][0].startswith("double-"):
            return None
        _, code, reason = said["tasks"][0].split("-", 2)
        return {"tasks": [{"lastStatus": "STOPPED", "containers": [{"exitCode": int(code), "reason": reason}]}]}

    def noted(self, name, region):
        """Keeps what ran; gives why it fails, where a test asked for that."""
        wanted = {one.logical_id: str(one.properties.get("DesiredCount")) for stack in self.every_stack()
                  if stack.region == region for one in list(stack.resources.values())
                  if one.kind == "AWS::ECS::Service"}
        self.runs.append({"name": name, "region": region, "wanted": wanted})
        for fault in self.faults:
            if fault["operation"] == "run" and fault.get("stack", "") in name and fault.setdefault("times", 1) > 0:
                fault["times"] -= 1
                return fault.get("reason", "asked for")
        return None

    def own(self, environ, start_response, path):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        method, said = environ["REQUEST_METHOD"], json.loads(body) if body else {}
        result = {}
        if path == "/double/faults" and method == "POST":
            self.faults.append(said)
        elif path == "/double/faults" and method == "DELETE":
            self.faults.clear()
        elif path == "/double/drift":
            stack = next(one for one in self.every_stack() if said["stack"] in (one.name, one.id))
            resource = stack.resources[said["logical_id"]]
            resource.drifted = {said["property"]: said["value"]}
        elif path == "/double/runs":
            result = self.runs
        elif path == "/double/resources":
            result = [{"stack": stack.name, "region": stack.region, "logical_id": one.logical_id, "type": one.kind, "physical_id": one.physical,
                       "status": one.status, "properties": one.properties}
                      for stack in self.every_stack() for one in list(stack.resources.values())]
        else:
            return self.answer(start_response, "404 Not Found", "{}", "application/json")
        return self.answer(start_response, "200 OK", json.dumps(result, default=str), "application/json")

    def answer(self, start_response, status, text, kind):
        data = text.encode()
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
        return [data]


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--pause-ms", type=float, default=2, help="how long making one resource takes")
    asked = words.parse_args()
    os.environ["MOTO_PORT"] = str(asked.port)
    endpoint = f"http://127.0.0.1:{asked.port}"
    made, lock = {}, threading.Lock()

    def services_of(region):
        with lock:
            return made.setdefault(region, Services(endpoint, region))

    def fetch(region, url):
        bucket, key = bucket_and_key(url)
        try:
            return services_of(region).client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
        except Exception as error:
            raise Invalid(f"S3 error: {error}") from None

    front = Front(lambda: Double(services_of, fetch, asked.pause_ms / 1000))
    server = make_server("127.0.0.1", asked.port, front, threaded=True)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
