"""The double does what CloudFormation does, as far as the deployer relies on it."""
import json
import socket
import subprocess
import sys
import time
import unittest
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

QUEUE = """
AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  Seconds: {Type: Number, Default: 30, MaxValue: 43200}
  WithTable: {Type: String, Default: "no", AllowedValues: ["yes", "no"]}
Conditions:
  HasTable: !Equals [!Ref WithTable, "yes"]
Resources:
  Dead:
    Type: AWS::SQS::Queue
    DeletionPolicy: Retain
  Work:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: !Ref Seconds
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}
  Table:
    Type: AWS::DynamoDB::Table
    Condition: HasTable
    DependsOn: Work
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
Outputs:
  Url: {Value: !Ref Work, Export: {Name: !Sub "${AWS::StackName}-url"}}
"""


class TheDouble(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            cls.port = listener.getsockname()[1]
        serve = Path(__file__).with_name("serve.py")
        cls.process = subprocess.Popen([sys.executable, serve, "--port", str(cls.port)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.endpoint = f"http://127.0.0.1:{cls.port}"
        ends = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(cls.endpoint + "/double/resources", timeout=5).read()
                break
            except OSError:
                assert time.monotonic() < ends and cls.process.poll() is None, "it does not come up"
                time.sleep(0.05)
        client = lambda name: boto3.client(name, endpoint_url=cls.endpoint, region_name="eu-central-1",
                                           aws_access_key_id="x", aws_secret_access_key="x",
                                           config=Config(retries={"max_attempts": 1}))
        cls.stacks, cls.queues, cls.buckets = client("cloudformation"), client("sqs"), client("s3")
        cls.tables = client("dynamodb")

    @classmethod
    def tearDownClass(cls):
        cls.process.terminate()
        cls.process.wait()

    def tearDown(self):
        self.own("DELETE", "/double/faults")

    def own(self, method, path, said=None):
        request = urllib.request.Request(self.endpoint + path, method=method,
                                         data=json.dumps(said).encode() if said is not None else None)
        return json.loads(urllib.request.urlopen(request).read())

    def plan(self, name, template, kind="CREATE", **values):
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]
        self.stacks.create_change_set(StackName=name, ChangeSetName="next", ChangeSetType=kind,
                                      TemplateBody=template, Parameters=given)
        return self.stacks.describe_change_set(StackName=name, ChangeSetName="next")

    def settle(self, name):
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            stack = self.stacks.describe_stacks(StackName=name)["Stacks"][0]
            if not stack["StackStatus"].endswith("IN_PROGRESS"):
                return stack
            time.sleep(0.01)
        self.fail(f"{name} does not come to rest")

    def deploy(self, name, template, kind="CREATE", **values):
        self.plan(name, template, kind, **values)
        self.stacks.execute_change_set(StackName=name, ChangeSetName="next")
        return self.settle(name)

    def statuses(self, stack_id, logical_id):
        events = self.stacks.describe_stack_events(StackName=stack_id)["StackEvents"]
        return [one["ResourceStatus"] for one in reversed(events) if one["LogicalResourceId"] == logical_id]

    def test_a_stack_is_made_through_the_services_with_an_event_a_resource_in_order(self):
        stack = self.deploy("made", QUEUE, Seconds="45")
        self.assertEqual(stack["StackStatus"], "CREATE_COMPLETE")
        url = stack["Outputs"][0]["OutputValue"]
        attributes = self.queues.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        self.assertEqual(attributes["VisibilityTimeout"], "45")
        self.assertEqual(json.loads(attributes["RedrivePolicy"])["maxReceiveCount"], 3)
        events = list(reversed(self.stacks.describe_stack_events(StackName="made")["StackEvents"]))
        done = [one["LogicalResourceId"] for one in events if one["ResourceStatus"] == "CREATE_COMPLETE"]
        self.assertEqual(done, ["Dead", "Work", "made"])
        self.assertIn("made-url", [one["Name"] for one in self.stacks.list_exports()["Exports"]])

    def test_an_update_lists_each_property_and_whether_it_replaces(self):
        self.deploy("changed", QUEUE, WithTable="yes")
        template = (QUEUE.replace("      BillingMode", "      TableName: another\n      BillingMode")
                    .replace("maxReceiveCount: 3", "maxReceiveCount: 4"))
        plan = self.plan("changed", template, "UPDATE", WithTable="yes", Seconds="60")
        changes = {one["ResourceChange"]["LogicalResourceId"]: one["ResourceChange"] for one in plan["Changes"]}
        self.assertEqual(changes["Table"]["Replacement"], "True")
        self.assertEqual(changes["Work"]["Replacement"], "False")
        names = {detail["Target"]["Name"]: detail for detail in changes["Work"]["Details"]}
        self.assertEqual(set(names), {"VisibilityTimeout", "RedrivePolicy"})
        self.assertEqual(names["VisibilityTimeout"]["ChangeSource"], "ParameterReference")
        self.assertEqual((names["VisibilityTimeout"]["Target"]["BeforeValue"],
                          names["VisibilityTimeout"]["Target"]["AfterValue"]), ("30", "60"))
        before = self.tables.list_tables()["TableNames"]
        self.stacks.execute_change_set(StackName="changed", ChangeSetName="next")
        self.assertEqual(self.settle("changed")["StackStatus"], "UPDATE_COMPLETE")
        after = self.tables.list_tables()["TableNames"]
        self.assertEqual(len(before), len(after))
        self.assertNotEqual(before, after)

    def test_no_changes_is_a_failed_change_set(self):
        self.deploy("same", QUEUE)
        plan = self.plan("same", QUEUE, "UPDATE")
        self.assertEqual(plan["Status"], "FAILED")
        self.assertIn("didn't contain changes", plan["StatusReason"])

    def test_a_failed_create_is_rolled_back(self):
        self.own("POST", "/double/faults", {"logical_id": "Table", "operation": "create", "reason": "no room"})
        stack = self.deploy("broken", QUEUE, WithTable="yes")
        self.assertEqual(stack["StackStatus"], "ROLLBACK_COMPLETE")
        self.assertEqual(self.statuses("broken", "Table"), ["CREATE_IN_PROGRESS", "CREATE_FAILED"])
        self.assertEqual(self.statuses("broken", "Work")[-1], "DELETE_COMPLETE")
        self.assertFalse([url for url in self.queues.list_queues().get("QueueUrls", []) if "broken" in url])
        with self.assertRaises(ClientError):
            self.plan("broken", QUEUE, "UPDATE")

    def test_a_failed_update_is_rolled_back_to_what_was(self):
        self.deploy("back", QUEUE)
        self.own("POST", "/double/faults", {"logical_id": "Table", "operation": "create", "reason": "no room"})
        stack = self.deploy("back", QUEUE, "UPDATE", WithTable="yes", Seconds="99")
        self.assertEqual(stack["StackStatus"], "UPDATE_ROLLBACK_COMPLETE")
        url = stack["Outputs"][0]["OutputValue"]
        attributes = self.queues.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        self.assertEqual(attributes["VisibilityTimeout"], "30")

    def test_a_failed_roll_back_is_told(self):
        self.deploy("stuck", QUEUE)
        self.own("POST", "/double/faults", {"logical_id": "Table", "operation": "create", "reason": "no room"})
        self.own("POST", "/double/faults", {"logical_id": "stuck", "operation": "rollback", "reason": "no way back"})
        self.assertEqual(self.deploy("stuck", QUEUE, "UPDATE", WithTable="yes")["StackStatus"], "UPDATE_ROLLBACK_FAILED")
        self.stacks.continue_update_rollback(StackName="stuck")
        self.assertEqual(self.settle("stuck")["StackStatus"], "UPDATE_ROLLBACK_COMPLETE")

    def test_what_is_retained_stays_and_the_rest_goes(self):
        stack = self.deploy("gone", QUEUE)
        self.stacks.delete_stack(StackName="gone")
        self.assertEqual(self.settle(stack["StackId"])["StackStatus"], "DELETE_COMPLETE")
        left = [url for url in self.queues.list_queues()["QueueUrls"] if "gone-" in url]
        self.assertEqual(len(left), 1)
        self.assertIn("gone-Dead", left[0])
        self.assertEqual(self.statuses(stack["StackId"], "Dead")[-1], "DELETE_SKIPPED")
        with self.assertRaisesRegex(ClientError, "does not exist"):
            self.stacks.describe_stacks(StackName="gone")

    def test_a_bucket_that_is_not_empty_stops_the_deletion(self):
        self.deploy("full", "Resources:\n  Files: {Type: AWS::S3::Bucket}\n")
        name = self.stacks.describe_stack_resources(StackName="full")["StackResources"][0]["PhysicalResourceId"]
        self.buckets.put_object(Bucket=name, Key="a", Body=b"a")
        self.stacks.delete_stack(StackName="full")
        self.assertEqual(self.settle("full")["StackStatus"], "DELETE_FAILED")
        self.assertIn("not empty", self.stacks.describe_stack_events(StackName="full")["StackEvents"][1]["ResourceStatusReason"])

    def test_unknown_types_properties_values_and_parameters_are_refused(self):
        for template, why in [
            ("Resources:\n  A: {Type: AWS::Nothing::Here}\n", "Unrecognized resource types"),
            ("Resources:\n  A: {Type: AWS::SQS::Queue, Properties: {Color: red}}\n", "extraneous key"),
            ("Resources:\n  A: {Type: AWS::SNS::Subscription, Properties: {}}\n", "required key"),
            ("Resources:\n  A: {Type: AWS::SQS::Queue, Wrong: 1}\n", "Invalid template resource property"),
            ("Resources:\n  A: {Type: AWS::SQS::Queue, Properties: {QueueName: !Ref Nobody}}\n", "Unresolved resource"),
            ("Resources:\n  A: {Type: AWS::SQS::Queue, Properties: {QueueName: !GetAtt B.Nothing}}\n  B: {Type: AWS::SQS::Queue}\n",
             "does not support attribute"),
            ("Resources:\n  A: {Type: AWS::SQS::Queue, DependsOn: B}\n  B: {Type: AWS::SQS::Queue, DependsOn: A}\n", "Circular"),
            ("Resources: {}\n", "At least one Resources"),
        ]:
            with self.subTest(why), self.assertRaisesRegex(ClientError, why):
                self.plan("refused", template)
        with self.assertRaisesRegex(ClientError, "AllowedValues"):
            self.plan("refused", QUEUE, WithTable="perhaps")
        with self.assertRaisesRegex(ClientError, "do not exist in the template"):
            self.plan("refused", QUEUE, Nothing="1")

    def test_roles_need_a_capability(self):
        role = ("Resources:\n  R:\n    Type: AWS::IAM::Role\n    Properties:\n      AssumeRolePolicyDocument:\n"
                "        Version: '2012-10-17'\n        Statement: []\n")
        with self.assertRaisesRegex(ClientError, "CAPABILITY_IAM"):
            self.plan("roles", role)

    def test_a_protected_stack_stays(self):
        self.deploy("kept", QUEUE)
        self.stacks.update_termination_protection(StackName="kept", EnableTerminationProtection=True)
        with self.assertRaisesRegex(ClientError, "TerminationProtection"):
            self.stacks.delete_stack(StackName="kept")

    def test_nested_stacks_are_planned_made_wired_and_removed(self):
        self.buckets.create_bucket(Bucket="templates", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.buckets.put_object(Bucket="templates", Key="queue.yaml", Body=QUEUE.encode())
        root = f"""
Parameters: {{Seconds: {{Type: String, Default: "30"}}}}
Resources:
  Inner:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: {self.endpoint}/templates/queue.yaml
      Parameters: {{Seconds: !Ref Seconds}}
  Told:
    Type: AWS::SSM::Parameter
    Properties: {{Type: String, Value: !GetAtt Inner.Outputs.Url}}
Outputs: {{Url: {{Value: !GetAtt Inner.Outputs.Url}}}}
"""
        self.stacks.create_change_set(StackName="root", ChangeSetName="next", ChangeSetType="CREATE",
                                      TemplateBody=root, IncludeNestedStacks=True)
        plan = self.stacks.describe_change_set(StackName="root", ChangeSetName="next")
        inner = plan["Changes"][0]["ResourceChange"]["ChangeSetId"]
        changes = self.stacks.describe_change_set(ChangeSetName=inner)["Changes"]
        self.assertEqual([one["ResourceChange"]["LogicalResourceId"] for one in changes], ["Dead", "Work"])
        self.stacks.execute_change_set(StackName="root", ChangeSetName="next")
        stack = self.settle("root")
        self.assertEqual(stack["StackStatus"], "CREATE_COMPLETE", stack)
        self.assertIn("root-Inner", stack["Outputs"][0]["OutputValue"])
        self.own("POST", "/double/faults", {"logical_id": "Work", "operation": "update", "reason": "not now"})
        self.assertEqual(self.deploy("root", root, "UPDATE", Seconds="31")["StackStatus"], "UPDATE_ROLLBACK_COMPLETE")
        self.assertEqual(self.deploy("root", root, "UPDATE", Seconds="32")["StackStatus"], "UPDATE_COMPLETE")
        self.stacks.delete_stack(StackName="root")
        self.assertEqual(self.settle(stack["StackId"])["StackStatus"], "DELETE_COMPLETE")
        self.assertFalse([one for one in self.stacks.describe_stacks()["Stacks"] if one["StackName"].startswith("root")])

    def test_an_update_can_be_cancelled(self):
        self.deploy("halted", QUEUE)
        self.own("POST", "/double/faults", {"logical_id": "Work", "operation": "update", "hang_s": 30})
        self.plan("halted", QUEUE, "UPDATE", Seconds="77", WithTable="yes")
        self.stacks.execute_change_set(StackName="halted", ChangeSetName="next")
        ends = time.monotonic() + 20
        while "UPDATE_IN_PROGRESS" not in self.statuses("halted", "Work"):
            self.assertLess(time.monotonic(), ends)
        self.stacks.cancel_update_stack(StackName="halted")
        self.assertEqual(self.settle("halted")["StackStatus"], "UPDATE_ROLLBACK_COMPLETE")

    def test_drift_and_throttling_and_expired_credentials_can_be_caused(self):
        self.deploy("drifts", QUEUE)
        self.own("POST", "/double/drift", {"stack": "drifts", "logical_id": "Work", "property": "VisibilityTimeout", "value": 1})
        detection = self.stacks.detect_stack_drift(StackName="drifts")["StackDriftDetectionId"]
        status = self.stacks.describe_stack_drift_detection_status(StackDriftDetectionId=detection)
        self.assertEqual((status["StackDriftStatus"], status["DriftedStackResourceCount"]), ("DRIFTED", 1))
        self.own("POST", "/double/faults", {"logical_id": "DescribeStacks", "operation": "api", "code": "Throttling",
                                           "reason": "Rate exceeded", "times": 2})
        with self.assertRaisesRegex(ClientError, "Throttling"):
            self.stacks.describe_stacks(StackName="drifts")
        expired = boto3.client("cloudformation", endpoint_url=self.endpoint, region_name="eu-central-1",
                               aws_access_key_id="expired", aws_secret_access_key="x")
        with self.assertRaisesRegex(ClientError, "ExpiredToken"):
            expired.describe_stacks()


if __name__ == "__main__":
    unittest.main()
