"""Least privilege: what each role may do, and that nothing is allowed which no code uses."""
import re
import unittest

import generated
import model

ROLES = ("modules/iam.yaml", "migration.yaml")
# The calls of the SDK that need an action: one of them has to be in the code.
CALLS = {
    "dynamodb:BatchGetItem": [".batch_get_item("],
    "dynamodb:DeleteItem": [".delete_item(", "Delete::builder"],
    "dynamodb:DescribeTable": [".describe_table("],
    "dynamodb:GetItem": [".get_item("],
    "dynamodb:PutItem": [".put_item(", "Put::builder"],
    "dynamodb:Query": [".query()"],
    "dynamodb:UpdateItem": [".update_item(", "Update::builder"],
    "s3:AbortMultipartUpload": [".abort_multipart_upload("],
    "s3:DeleteObject": [".delete_object("],
    "s3:GetObject": [".get_object("],
    "s3:ListBucket": [".list_objects_v2("],
    "s3:ListMultipartUploadParts": [".list_parts("],
    "s3:PutObject": [".put_object("],
    "secretsmanager:GetSecretValue": [".get_secret_value("],
    "sqs:ChangeMessageVisibility": [".change_message_visibility_batch("],
    "sqs:DeleteMessage": [".delete_message_batch("],
    "sqs:GetQueueAttributes": [".get_queue_attributes("],
    "sqs:GetQueueUrl": [".get_queue_url("],
    "sqs:ReceiveMessage": [".receive_message("],
    "sqs:SendMessage": [".send_message_batch(", ".send_message("],
}
# What AWS does in a role's name when the code calls one of the above, or starts it.
BY_AWS = {
    "ec2:AssignPrivateIpAddresses": "Lambda, for a function in a private subnet",
    "ec2:CreateNetworkInterface": "Lambda, for a function in a private subnet",
    "ec2:DeleteNetworkInterface": "Lambda, for a function in a private subnet",
    "ec2:DescribeNetworkInterfaces": "Lambda, for a function in a private subnet",
    "ec2:DescribeSubnets": "Lambda, for a function in a private subnet",
    "ec2:UnassignPrivateIpAddresses": "Lambda, for a function in a private subnet",
    "kms:Decrypt": "SQS, S3, DynamoDB and Secrets Manager, with the customer's key",
    "kms:GenerateDataKey": "SQS and S3, with the customer's key",
    "logs:CreateLogStream": "Lambda, for what a function prints",
    "logs:PutLogEvents": "Lambda, for what a function prints",
}
# What `inlet plan`, `deploy`, `status` and `destroy` call, and where in their code each is.
DEPLOYER = {
    "cloudformation:ContinueUpdateRollback": ".continue_update_rollback(",
    "cloudformation:CreateChangeSet": ".create_change_set(",
    "cloudformation:DeleteChangeSet": ".delete_change_set(",
    "cloudformation:DeleteStack": ".delete_stack(",
    "cloudformation:DescribeChangeSet": ".describe_change_set(",
    "cloudformation:DescribeStackDriftDetectionStatus": ".describe_stack_drift_detection_status(",
    "cloudformation:DescribeStackEvents": ".describe_stack_events(",
    "cloudformation:DescribeStackResourceDrifts": ".describe_stack_resource_drifts(",
    "cloudformation:DescribeStackResources": ".describe_stack_resources(",
    "cloudformation:DescribeStacks": ".describe_stacks(",
    "cloudformation:DetectStackDrift": ".detect_stack_drift(",
    "cloudformation:ExecuteChangeSet": ".execute_change_set(",
    "cloudformation:TagResource": "Tag::builder",
    "cloudformation:UntagResource": "Tag::builder",
    "cloudwatch:DescribeAlarms": '"DescribeAlarms"',
    "dynamodb:ListTables": "DynamoDB_20120810.ListTables",
    "ec2:DescribeManagedPrefixLists": '"DescribeManagedPrefixLists"',
    "ecr:BatchCheckLayerAvailability": "fn has(",
    "ecr:BatchGetImage": "fn has_manifest(",
    "ecr:CompleteLayerUpload": "fn upload(",
    "ecr:DescribeRepositories": ".DescribeRepositories",
    "ecr:GetAuthorizationToken": ".GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer": "fn has(",
    "ecr:InitiateLayerUpload": "fn upload(",
    "ecr:PutImage": "put the manifest",
    "ecr:UploadLayerPart": "fn upload(",
    "ecs:DescribeClusters": ".DescribeClusters",
    "ecs:DescribeTasks": '"DescribeTasks"',
    "ecs:ListClusters": ".ListClusters",
    "ecs:ListTasks": '"ListTasks"',
    "ecs:RunTask": '"RunTask"',
    "elasticache:DescribeReplicationGroups": '"DescribeReplicationGroups"',
    "elasticloadbalancing:DescribeLoadBalancers": '"DescribeLoadBalancers"',
    "iam:PassRole": "role_arn",
    "kms:Decrypt": "fn get(",
    "kms:DescribeKey": "TrentService.DescribeKey",
    "kms:GenerateDataKey": "fn put(",
    "lambda:InvokeFunction": "/invocations",
    "lambda:ListFunctions": "/2015-03-31/functions/",
    "logs:DescribeLogGroups": ".DescribeLogGroups",
    "rds:DescribeDBClusterSnapshots": '"DescribeDBClusterSnapshots"',
    "rds:DescribeDBClusters": '"DescribeDBClusters"',
    "s3:DeleteObject": "?delete",
    "s3:DeleteObjectVersion": "?delete",
    "s3:GetBucketLocation": "?location",
    "s3:GetObject": "fn get(",
    "s3:ListAllMyBuckets": "Kind::Bucket",
    "s3:ListBucket": "?list-type=2",
    "s3:ListBucketVersions": "?versions",
    "s3:PutObject": "fn put(",
    "secretsmanager:ListSecrets": "secretsmanager.ListSecrets",
    "sqs:GetQueueAttributes": "AmazonSQS.GetQueueAttributes",
    "sqs:GetQueueUrl": "AmazonSQS.GetQueueUrl",
    "sqs:ListQueues": "AmazonSQS.ListQueues",
    "sts:GetCallerIdentity": '"GetCallerIdentity"',
    "tag:GetResources": ".GetResources",
}


def code():
    """The code that asks AWS for something while Inlet runs; deploying has a role of its own."""
    crates = model.REPOSITORY / "crates"
    sources = [path for crate in ("inlet-adapters", "inlet-lambda")
               for path in sorted((crates / crate / "src").rglob("*.rs"))]
    return "\n".join(path.read_text() for path in sources)


def unused(actions, text):
    """The actions that no call in `text` needs."""
    return {one for one in actions if not any(call in text for call in CALLS.get(one, []))}


def role(name):
    """(action, resource) of every statement of a role, in every combination of conditions."""
    for file in ROLES:
        for owner, statement in generated.statements(file):
            if owner == name:
                for action in generated.listed(statement["Action"]):
                    for resource in generated.listed(statement["Resource"]):
                        yield action, str(resource)


def verbs(name):
    return {action for action, _ in role(name) if action not in BY_AWS}


class Permissions(unittest.TestCase):
    def test_intake_can_only_send(self):
        self.assertEqual({
            "sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes", "s3:PutObject",
            "secretsmanager:GetSecretValue"}, verbs("IntakeRole"))
        places = {where for action, where in role("IntakeRole") if action == "s3:PutObject"}
        self.assertEqual({"{'Fn::Sub': '${BucketArn}/overflow/*'}"}, places)

    def test_read_changes_nothing(self):
        for action in verbs("ReadRole"):
            self.assertRegex(action, r":(Get|BatchGet|Describe|Query|List)")

    def test_admin_erases_and_sends_and_reads_no_queue(self):
        queue = {one for one in verbs("AdminRole") if one.startswith("sqs:")}
        self.assertEqual({"sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"}, queue)
        places = {where for action, where in role("AdminRole") if action == "s3:PutObject"}
        self.assertEqual({"{'Fn::Sub': '${BucketArn}/files/*'}",
                          "{'Fn::Sub': '${BucketArn}/overflow/*'}"}, places)

    def test_only_what_answers_clients_reads_tokens(self):
        readers = {owner for owner, statement in generated.statements("modules/iam.yaml")
                   if statement["Sid"] == "ReadTokens"}
        self.assertEqual({"IntakeRole", "ReadRole", "AdminRole", "ApiRole"}, readers)
        for file, kept in (("modules/functions.yaml", {"Intake", "Read", "Admin"}),
                           ("modules/ecs.yaml", {"ApiTask"})):
            given = {name for name, one in model.template(file)["Resources"].items()
                     if "SecretsUrlSetting" in str(one)}
            self.assertEqual(kept, given, file)

    def test_persist_takes_from_the_queue_and_writes_the_store(self):
        queue = {one for one in verbs("PersistRole") if one.startswith("sqs:")}
        self.assertEqual({"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility",
                          "sqs:GetQueueAttributes", "sqs:GetQueueUrl"}, queue)
        places = {where for action, where in role("PersistRole") if action.startswith("s3:")}
        self.assertEqual({"{'Fn::Sub': '${BucketArn}/overflow/*'}"}, places)

    def test_summary_reads_and_writes_its_prefixes(self):
        self.assertFalse([one for one in verbs("SummaryRole") if one.startswith("sqs:")])
        writes = {where for action, where in role("SummaryRole") if action == "s3:PutObject"}
        self.assertEqual({"{'Fn::Sub': '${BucketArn}/backups/*'}",
                          "{'Fn::Sub': '${BucketArn}/summaries/*'}"}, writes)
        for action in verbs("SummaryRole"):
            if action.startswith("dynamodb:"):
                self.assertRegex(action, r":(Get|BatchGet|Describe|Query)")

    def test_only_the_migration_reads_the_owners_password(self):
        for file in model.files():
            for owner, statement in generated.statements(file):
                if "OwnerSecret" in str(statement.get("Resource")):
                    self.assertEqual(("migration.yaml", "MigrationRole"), (file, owner))
        self.assertEqual({"secretsmanager:GetSecretValue"}, verbs("MigrationRole"))

    def test_a_key_is_used_through_one_service_alone(self):
        for file in ROLES:
            for owner, statement in generated.statements(file):
                if any(one.startswith("kms:") for one in generated.listed(statement["Action"])):
                    with self.subTest(role=owner, statement=statement["Sid"]):
                        self.assertIn("kms:ViaService", statement["Condition"]["StringEquals"])

    def test_no_permission_is_there_that_no_code_uses(self):
        granted = {action for file in ROLES for _, statement in generated.statements(file)
                   for action in generated.listed(statement["Action"])}
        self.assertEqual(set(), granted - set(CALLS) - set(BY_AWS), "nobody knows what it is for")
        self.assertEqual(set(), set(CALLS) - granted, "the code may not do what it does")
        text = code()
        self.assertEqual(set(), unused(set(CALLS), text))

    def test_the_deployer_may_do_what_its_commands_call_and_no_more(self):
        policy = model.template("bootstrap.yaml")["Resources"]["Deploy"]["Properties"]["PolicyDocument"]
        granted = {action for statement in policy["Statement"]
                   for action in generated.listed(statement["Action"])}
        self.assertEqual(set(DEPLOYER), granted)
        sources = sorted((model.REPOSITORY / "crates" / "inlet-deploy" / "src").rglob("*.rs"))
        text = "\n".join(path.read_text() for path in sources)
        self.assertEqual([], [one for one, call in DEPLOYER.items() if call not in text])

    def test_a_permission_that_no_code_uses_is_found(self):
        self.assertEqual({"sqs:SendMessage"}, unused({"sqs:SendMessage", "s3:GetObject"},
                                                     "client.get_object().send()"))

    def test_every_variable_is_a_setting(self):
        source = model.REPOSITORY / "crates" / "inlet" / "src" / "config" / "settings.rs"
        settings = {f"INLET_{name.upper()}"
                    for name in re.findall(r'setting\(\s*"(\w+)"', source.read_text())}
        self.assertIn("INLET_QUEUE", settings)
        for file in ("modules/functions.yaml", "modules/ecs.yaml", "migration.yaml"):
            used = set(re.findall(r"\bINLET_[A-Z_]+\b", (model.DEPLOY / file).read_text()))
            self.assertTrue(used)
            self.assertEqual(set(), used - settings, file)


if __name__ == "__main__":
    unittest.main()
