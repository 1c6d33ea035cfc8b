"""Both shapes in both environments stand up in the double of CloudFormation, change and go again.

The services' own APIs are asked for what was made: the double makes it through moto. Of what moto
can't make, the double only keeps the properties.
"""
import json
import socket
import subprocess
import sys
import time
import unittest
import urllib.request

import boto3
from botocore.config import Config

import model

STARTS_S = 60
SETTLES_S = 120


class Deployed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        serve = model.REPOSITORY / "tests" / "cloudformation" / "serve.py"
        cls.process = subprocess.Popen([sys.executable, serve, "--port", str(port)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(cls.process.wait)
        cls.addClassCleanup(cls.process.kill)
        cls.endpoint = f"http://127.0.0.1:{port}"
        ends = time.monotonic() + STARTS_S
        while True:
            try:
                urllib.request.urlopen(cls.endpoint + "/double/resources", timeout=5).read()
                break
            except OSError:
                assert time.monotonic() < ends and cls.process.poll() is None, "it does not come up"
                time.sleep(0.05)
        cls.stacks = cls.client("cloudformation")
        buckets = cls.client("s3")
        buckets.create_bucket(Bucket=model.FROM_THE_DEPLOYER["ArtifactBucket"])
        prefix = model.FROM_THE_DEPLOYER["ArtifactPrefix"]
        for file in model.files():
            buckets.put_object(Bucket=model.FROM_THE_DEPLOYER["ArtifactBucket"],
                               Key=prefix + file, Body=(model.DEPLOY / file).read_bytes())
        buckets.put_object(Bucket=model.FROM_THE_DEPLOYER["ArtifactBucket"],
                           Key=prefix + "functions.zip", Body=b"PK\5\6" + bytes(18))

    @classmethod
    def client(cls, service):
        return boto3.client(service, region_name=model.REGION, endpoint_url=cls.endpoint,
                            aws_access_key_id="test", aws_secret_access_key="test",
                            config=Config(retries={"max_attempts": 1}))

    def apply(self, stack, shape, kind, values):
        """Makes a change set, gives its changes, executes it and gives the stack's end."""
        self.stacks.create_change_set(
            StackName=stack, ChangeSetName="next", ChangeSetType=kind, IncludeNestedStacks=True,
            TemplateBody=(model.DEPLOY / f"{shape}.yaml").read_text(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value}
                        for key, value in values.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Tags=[{"Key": "Project", "Value": "inlet"}])
        plan = self.stacks.describe_change_set(StackName=stack, ChangeSetName="next")
        self.assertEqual("CREATE_COMPLETE", plan["Status"], plan.get("StatusReason"))
        self.stacks.execute_change_set(StackName=stack, ChangeSetName="next")
        return plan["Changes"], self.settle(stack)

    def settle(self, stack):
        ends = time.monotonic() + SETTLES_S
        while True:
            found = self.stacks.describe_stacks(StackName=stack)["Stacks"][0]
            if not found["StackStatus"].endswith("IN_PROGRESS"):
                return found
            self.assertLess(time.monotonic(), ends, f"{stack} does not settle")
            time.sleep(0.05)

    def failures(self, stack):
        """What failed in a stack and in the stacks within it."""
        found = []
        for one in self.stacks.describe_stack_events(StackName=stack)["StackEvents"]:
            if one["ResourceStatus"].endswith("FAILED"):
                found.append((one["LogicalResourceId"], one.get("ResourceStatusReason")))
                if one["ResourceType"] == "AWS::CloudFormation::Stack" \
                        and one["PhysicalResourceId"] not in (stack, one["StackId"]):
                    found.extend(self.failures(one["PhysicalResourceId"]))
        return found

    def resources(self, stack, path=""):
        """Every resource of a stack and of the stacks within it, as the golden lists name them."""
        for one in self.stacks.describe_stack_resources(StackName=stack)["StackResources"]:
            yield f"{path}{one['LogicalResourceId']} {one['ResourceType']}"
            if one["ResourceType"] == "AWS::CloudFormation::Stack":
                yield from self.resources(one["PhysicalResourceId"],
                                          f"{path}{one['LogicalResourceId']}/")

    def test_each_stands_up_changes_and_goes(self):
        for shape in model.SHAPES:
            for environment in model.ENVIRONMENTS:
                with self.subTest(shape=shape, environment=environment):
                    self.live_and_die(environment, shape)

    def live_and_die(self, environment, shape):
        stack = f"inlet-{environment}-{shape}"
        values = model.given(environment, shape)
        _, made = self.apply(stack, shape, "CREATE", values)
        self.assertEqual("CREATE_COMPLETE", made["StackStatus"], self.failures(stack))
        outputs = {one["OutputKey"]: one["OutputValue"] for one in made["Outputs"]}

        golden = (model.DEPLOY / "golden" / f"{shape}-{environment}.txt").read_text().splitlines()
        self.assertEqual([line.rsplit(" ", 1)[0] for line in golden], sorted(self.resources(stack)))
        table = self.client("dynamodb").describe_table(TableName=outputs["TableName"])["Table"]
        self.assertEqual(["pk", "sk"], [one["AttributeName"] for one in table["KeySchema"]])
        queue = self.client("sqs").get_queue_attributes(
            QueueUrl=outputs["QueueUrl"], AttributeNames=["All"])["Attributes"]
        self.assertEqual(10, json.loads(queue["RedrivePolicy"])["maxReceiveCount"])

        # A setting changes; the next release comes; and the one before it comes back.
        later = {"Release": "r2"} if shape == "serverless" else {
            "Image": model.FROM_THE_DEPLOYER["Image"].replace("0" * 64, "1" * 64)}
        for changed in ({"LogRetentionDays": "30"}, later, {}):
            _, updated = self.apply(stack, shape, "UPDATE", {**values, **changed})
            self.assertEqual("UPDATE_COMPLETE", updated["StackStatus"], self.failures(stack))
        self.assertEqual([line.rsplit(" ", 1)[0] for line in golden], sorted(self.resources(stack)))

        stack_id = made["StackId"]
        self.stacks.delete_stack(StackName=stack)
        gone = self.settle(stack_id)
        self.assertEqual("DELETE_COMPLETE", gone["StackStatus"], self.failures(stack_id))
        # What holds documents is still there.
        self.client("dynamodb").describe_table(TableName=outputs["TableName"])
        self.client("sqs").get_queue_attributes(QueueUrl=outputs["QueueUrl"])


if __name__ == "__main__":
    unittest.main()
