"""Makes resources through the emulator's own service APIs where they exist; of other types only
the properties are kept, in `Kept`, so that a test can ask for them.

A kind has `create(properties, name) -> (physical id, attributes)`, `update(physical id, properties)`
and `delete(physical id, properties)`.
"""
import io
import json
import random
import string
import zipfile

import boto3
from botocore.exceptions import ClientError

import schema

ACCOUNT = "123456789012"


class Failed(Exception):
    """What a service answered, as an event shows it."""


def random_text(length=12, letters=string.ascii_uppercase + string.digits):
    return "".join(random.choice(letters) for _ in range(length))


def made_up(name, length_max=128):
    """A name for `stack-LogicalId`, of which the stack's part is shortened where it is too long."""
    stack, _, logical_id = name.rpartition("-")
    room = length_max - len(logical_id) - 14
    return f"{stack[:room].rstrip('-')}-{logical_id}-{random_text()}"


class Services:
    def __init__(self, endpoint, region):
        self.endpoint, self.region = endpoint, region
        self._clients = {}

    def client(self, name):
        if name not in self._clients:
            self._clients[name] = boto3.client(
                name, endpoint_url=self.endpoint, region_name=self.region,
                aws_access_key_id="double", aws_secret_access_key="double")
        return self._clients[name]

    def kind(self, kind):
        return KINDS.get(kind, Kept)(self, kind)


class Kept:
    """A type whose service the emulator lacks or that says nothing to a test."""

    def __init__(self, services, kind):
        self.services, self.kind, self.stack_tags = services, kind, ()

    def call(self, service, operation, **arguments):
        try:
            return getattr(self.services.client(service), operation)(**arguments)
        except ClientError as error:
            detail = error.response["Error"]
            raise Failed(f"{detail.get('Message', error)} (Service: {service}, Code: {detail['Code']})") from None

    def create(self, properties, name):
        physical = self.named(properties, name)
        identifiers = schema.of(self.kind, self.services.region).get("primaryIdentifier", [])
        if any(one.endswith("Arn") for one in identifiers):
            service = self.kind.split("::")[1].lower()
            physical = f"arn:aws:{service}:{self.services.region}:{ACCOUNT}:{physical}"
        return physical, {}

    def update(self, physical, properties):
        return {}

    def delete(self, physical, properties):
        pass

    def tags(self, properties, key="Key", value="Value"):
        """The tags of the resource and of its stack, as the service's own call wants them."""
        every = {one["Key"]: one["Value"] for one in [*self.stack_tags, *properties.get("Tags", [])]}
        return [{key: name, value: text} for name, text in every.items()]

    def named(self, properties, name, key=None):
        given = properties.get(key or self.kind.rsplit("::", 1)[1] + "Name") or (None if key else properties.get("Name"))
        return given if isinstance(given, str) and given else made_up(name, 64)


class Queue(Kept):
    def _attributes(self, properties):
        names = ("VisibilityTimeout", "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds", "DelaySeconds",
                 "MaximumMessageSize", "KmsMasterKeyId", "RedrivePolicy", "SqsManagedSseEnabled", "RedriveAllowPolicy")
        text = lambda value: json.dumps(value) if isinstance(value, dict) else str(value)
        return {name: text(properties[name]) for name in names if name in properties}

    def create(self, properties, name):
        queue = self.named(properties, name, "QueueName")
        url = self.call("sqs", "create_queue", QueueName=queue, Attributes=self._attributes(properties),
                        tags={one["Key"]: one["Value"] for one in self.tags(properties)})["QueueUrl"]
        return url, {"Arn": f"arn:aws:sqs:{self.services.region}:{ACCOUNT}:{queue}", "QueueName": queue, "QueueUrl": url}

    def update(self, physical, properties):
        self.call("sqs", "set_queue_attributes", QueueUrl=physical, Attributes=self._attributes(properties))

    def delete(self, physical, properties):
        self.call("sqs", "delete_queue", QueueUrl=physical)


class QueuePolicy(Kept):
    def create(self, properties, name):
        for url in properties["Queues"]:
            self.call("sqs", "set_queue_attributes", QueueUrl=url,
                      Attributes={"Policy": json.dumps(properties["PolicyDocument"])})
        return f"{name}-{random_text()}", {}


class Table(Kept):
    def create(self, properties, name):
        table = self.named(properties, name, "TableName")
        names = ("KeySchema", "AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes", "SSESpecification")
        arguments = {key: properties[key] for key in names if key in properties}
        if "SSESpecification" in arguments:
            sse = arguments["SSESpecification"]
            arguments["SSESpecification"] = {"Enabled": str(sse.get("SSEEnabled")).lower() == "true",
                                             **{key: sse[key] for key in ("SSEType", "KMSMasterKeyId") if key in sse}}
        made = self.call("dynamodb", "create_table", TableName=table, Tags=self.tags(properties),
                         **arguments)["TableDescription"]
        self._after(table, properties)
        return table, {"Arn": made["TableArn"], "StreamArn": made.get("LatestStreamArn", "")}

    def _after(self, table, properties):
        pitr = properties.get("PointInTimeRecoverySpecification")
        if pitr:
            self.call("dynamodb", "update_continuous_backups", TableName=table, PointInTimeRecoverySpecification={
                "PointInTimeRecoveryEnabled": str(pitr["PointInTimeRecoveryEnabled"]).lower() == "true"})
        ttl = properties.get("TimeToLiveSpecification")
        if ttl:
            self.call("dynamodb", "update_time_to_live", TableName=table, TimeToLiveSpecification={
                "Enabled": str(ttl["Enabled"]).lower() == "true", "AttributeName": ttl["AttributeName"]})

    def update(self, physical, properties):
        self._after(physical, properties)

    def delete(self, physical, properties):
        self.call("dynamodb", "delete_table", TableName=physical)


class Bucket(Kept):
    def create(self, properties, name):
        bucket = properties.get("BucketName") or made_up(name, 63).lower()
        place = {} if self.services.region == "us-east-1" else {
            "CreateBucketConfiguration": {"LocationConstraint": self.services.region}}
        self.call("s3", "create_bucket", Bucket=bucket, **place)
        tags = self.tags(properties)
        if tags:
            self.call("s3", "put_bucket_tagging", Bucket=bucket, Tagging={"TagSet": tags})
        self.update(bucket, properties)
        domain = f"{bucket}.s3.amazonaws.com"
        regional = f"{bucket}.s3.{self.services.region}.amazonaws.com"
        return bucket, {"Arn": f"arn:aws:s3:::{bucket}", "DomainName": domain, "RegionalDomainName": regional}

    def update(self, physical, properties):
        block = properties.get("PublicAccessBlockConfiguration")
        if block:
            self.call("s3", "put_public_access_block", Bucket=physical, PublicAccessBlockConfiguration={
                key: str(value).lower() == "true" for key, value in block.items()})
        if "VersioningConfiguration" in properties:
            self.call("s3", "put_bucket_versioning", Bucket=physical,
                      VersioningConfiguration=properties["VersioningConfiguration"])
        rules = properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration")
        if rules:
            self.call("s3", "put_bucket_encryption", Bucket=physical, ServerSideEncryptionConfiguration={"Rules": [
                {"ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"]} for rule in rules]})

    def delete(self, physical, properties):
        self.call("s3", "delete_bucket", Bucket=physical)


class BucketPolicy(Kept):
    def create(self, properties, name):
        self.update(properties["Bucket"], properties)
        return properties["Bucket"], {}

    def update(self, physical, properties):
        # moto knows no conditions: a denial that has one would deny everything.
        policy = properties["PolicyDocument"]
        kept = [one for one in policy["Statement"] if one["Effect"] != "Deny" or "Condition" not in one]
        if kept:
            self.call("s3", "put_bucket_policy", Bucket=properties["Bucket"],
                      Policy=json.dumps({**policy, "Statement": kept}))

    def delete(self, physical, properties):
        self.call("s3", "delete_bucket_policy", Bucket=properties["Bucket"])


class Secret(Kept):
    def create(self, properties, name):
        value = properties.get("SecretString")
        generate = properties.get("GenerateSecretString")
        if generate is not None:
            password = random_text(int(generate.get("PasswordLength", 32)), string.ascii_letters + string.digits)
            if "SecretStringTemplate" in generate:
                filled = json.loads(generate["SecretStringTemplate"])
                filled[generate["GenerateStringKey"]] = password
                value = json.dumps(filled)
            else:
                value = password
        arguments = {"SecretString": value} if value is not None else {}
        secret = self.named(properties, name, "Name")
        arn = self.call("secretsmanager", "create_secret", Name=secret, Tags=self.tags(properties), **arguments)["ARN"]
        return arn, {"Id": arn}

    def delete(self, physical, properties):
        self.call("secretsmanager", "delete_secret", SecretId=physical, ForceDeleteWithoutRecovery=True)


class Key(Kept):
    def create(self, properties, name):
        made = self.call("kms", "create_key", Policy=json.dumps(properties.get("KeyPolicy", {})),
                         Tags=self.tags(properties, "TagKey", "TagValue"),
                         Description=properties.get("Description", ""))["KeyMetadata"]
        if str(properties.get("EnableKeyRotation")).lower() == "true":
            self.call("kms", "enable_key_rotation", KeyId=made["KeyId"])
        return made["KeyId"], {"Arn": made["Arn"], "KeyId": made["KeyId"]}

    def delete(self, physical, properties):
        self.call("kms", "schedule_key_deletion", KeyId=physical, PendingWindowInDays=7)


class Alias(Kept):
    def create(self, properties, name):
        self.call("kms", "create_alias", AliasName=properties["AliasName"], TargetKeyId=properties["TargetKeyId"])
        return properties["AliasName"], {}

    def delete(self, physical, properties):
        self.call("kms", "delete_alias", AliasName=physical)


class Role(Kept):
    def create(self, properties, name):
        role = self.named(properties, name[:40], "RoleName")
        made = self.call("iam", "create_role", RoleName=role, Path=properties.get("Path", "/"),
                         AssumeRolePolicyDocument=json.dumps(properties["AssumeRolePolicyDocument"]))["Role"]
        self.update(role, properties)
        return role, {"Arn": made["Arn"], "RoleId": made["RoleId"]}

    def update(self, physical, properties):
        for policy in properties.get("Policies", []):
            self.call("iam", "put_role_policy", RoleName=physical, PolicyName=policy["PolicyName"],
                      PolicyDocument=json.dumps(policy["PolicyDocument"]))
        for arn in properties.get("ManagedPolicyArns", []):
            self.call("iam", "attach_role_policy", RoleName=physical, PolicyArn=arn)

    def delete(self, physical, properties):
        for name in self.call("iam", "list_role_policies", RoleName=physical)["PolicyNames"]:
            self.call("iam", "delete_role_policy", RoleName=physical, PolicyName=name)
        for policy in self.call("iam", "list_attached_role_policies", RoleName=physical)["AttachedPolicies"]:
            self.call("iam", "detach_role_policy", RoleName=physical, PolicyArn=policy["PolicyArn"])
        self.call("iam", "delete_role", RoleName=physical)


class RolePolicy(Kept):
    def create(self, properties, name):
        self.update(None, properties)
        return f"{name}-{random_text()}", {}

    def update(self, physical, properties):
        roles = properties.get("Roles") or [properties["RoleName"]]
        for role in roles:
            self.call("iam", "put_role_policy", RoleName=role, PolicyName=properties["PolicyName"],
                      PolicyDocument=json.dumps(properties["PolicyDocument"]))

    def delete(self, physical, properties):
        for role in properties.get("Roles") or [properties["RoleName"]]:
            self.call("iam", "delete_role_policy", RoleName=role, PolicyName=properties["PolicyName"])


class ManagedPolicy(Kept):
    def create(self, properties, name):
        policy = self.named(properties, name, "ManagedPolicyName")
        arn = self.call("iam", "create_policy", PolicyName=policy,
                        PolicyDocument=json.dumps(properties["PolicyDocument"]))["Policy"]["Arn"]
        for role in properties.get("Roles", []):
            self.call("iam", "attach_role_policy", RoleName=role, PolicyArn=arn)
        return arn, {"PolicyArn": arn}

    def delete(self, physical, properties):
        for role in properties.get("Roles", []):
            self.call("iam", "detach_role_policy", RoleName=role, PolicyArn=physical)
        self.call("iam", "delete_policy", PolicyArn=physical)


class OidcProvider(Kept):
    def create(self, properties, name):
        made = self.call("iam", "create_open_id_connect_provider", Url=properties["Url"],
                         ClientIDList=properties.get("ClientIdList", []),
                         ThumbprintList=properties.get("ThumbprintList", ["0" * 40]))
        return made["OpenIDConnectProviderArn"], {"Arn": made["OpenIDConnectProviderArn"]}

    def delete(self, physical, properties):
        self.call("iam", "delete_open_id_connect_provider", OpenIDConnectProviderArn=physical)


class LogGroup(Kept):
    def create(self, properties, name):
        group = self.named(properties, name, "LogGroupName")
        self.call("logs", "create_log_group", logGroupName=group,
                  tags={one["Key"]: one["Value"] for one in self.tags(properties)})
        self.update(group, properties)
        return group, {"Arn": f"arn:aws:logs:{self.services.region}:{ACCOUNT}:log-group:{group}:*"}

    def update(self, physical, properties):
        if "RetentionInDays" in properties:
            self.call("logs", "put_retention_policy", logGroupName=physical,
                      retentionInDays=int(properties["RetentionInDays"]))

    def delete(self, physical, properties):
        self.call("logs", "delete_log_group", logGroupName=physical)


class Topic(Kept):
    def create(self, properties, name):
        topic = self.named(properties, name, "TopicName")
        arn = self.call("sns", "create_topic", Name=topic)["TopicArn"]
        return arn, {"TopicArn": arn, "TopicName": topic}

    def delete(self, physical, properties):
        self.call("sns", "delete_topic", TopicArn=physical)


class Function(Kept):
    def create(self, properties, name):
        function = self.named(properties, name, "FunctionName")
        names = ("Role", "Handler", "Runtime", "Timeout", "MemorySize", "Environment", "Architectures", "Layers",
                 "KMSKeyArn", "VpcConfig", "TracingConfig", "DeadLetterConfig")
        arguments = {key: properties[key] for key in names if key in properties}
        for key in ("Timeout", "MemorySize"):
            if key in arguments:
                arguments[key] = int(arguments[key])
        if "Environment" in arguments:
            variables = arguments["Environment"].get("Variables", {})
            arguments["Environment"] = {"Variables": {key: str(value) for key, value in variables.items()}}
        code = dict(properties["Code"])
        if "ZipFile" in code:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr("index.py", code["ZipFile"])
            code = {"ZipFile": packed.getvalue()}
        made = self.call("lambda", "create_function", FunctionName=function, Code=code, **arguments)
        return function, {"Arn": made["FunctionArn"]}

    def update(self, physical, properties):
        code = {key: value for key, value in properties["Code"].items() if key in ("S3Bucket", "S3Key", "ImageUri")}
        if code:
            self.call("lambda", "update_function_code", FunctionName=physical, **code)
        variables = properties.get("Environment", {}).get("Variables", {})
        self.call("lambda", "update_function_configuration", FunctionName=physical,
                  Environment={"Variables": {key: str(value) for key, value in variables.items()}})

    def delete(self, physical, properties):
        self.call("lambda", "delete_function", FunctionName=physical)


class Version(Kept):
    def create(self, properties, name):
        made = self.call("lambda", "publish_version", FunctionName=properties["FunctionName"])
        return made["FunctionArn"], {"Version": made["Version"], "FunctionArn": made["FunctionArn"]}


class FunctionAlias(Kept):
    def create(self, properties, name):
        made = self.call("lambda", "create_alias", FunctionName=properties["FunctionName"],
                         Name=properties["Name"], FunctionVersion=str(properties["FunctionVersion"]))
        return made["AliasArn"], {"AliasArn": made["AliasArn"]}

    def update(self, physical, properties):
        self.call("lambda", "update_alias", FunctionName=properties["FunctionName"],
                  Name=properties["Name"], FunctionVersion=str(properties["FunctionVersion"]))

    def delete(self, physical, properties):
        self.call("lambda", "delete_alias", FunctionName=properties["FunctionName"], Name=properties["Name"])


class EventSourceMapping(Kept):
    def create(self, properties, name):
        names = ("EventSourceArn", "FunctionName", "BatchSize", "MaximumBatchingWindowInSeconds",
                 "FunctionResponseTypes", "Enabled")
        arguments = {key: properties[key] for key in names if key in properties}
        for key in ("BatchSize", "MaximumBatchingWindowInSeconds"):
            if key in arguments:
                arguments[key] = int(arguments[key])
        if "Enabled" in arguments:
            arguments["Enabled"] = str(arguments["Enabled"]).lower() == "true"
        made = self.call("lambda", "create_event_source_mapping", **arguments)
        return made["UUID"], {"Id": made["UUID"]}

    def delete(self, physical, properties):
        self.call("lambda", "delete_event_source_mapping", UUID=physical)


class Vpc(Kept):
    def create(self, properties, name):
        made = self.call("ec2", "create_vpc", CidrBlock=properties["CidrBlock"])["Vpc"]["VpcId"]
        return made, {"VpcId": made, "CidrBlock": properties["CidrBlock"],
                      "DefaultSecurityGroup": "sg-" + random_text(17, string.hexdigits.lower())}

    def delete(self, physical, properties):
        self.call("ec2", "delete_vpc", VpcId=physical)


class Subnet(Kept):
    def create(self, properties, name):
        arguments = {key: properties[key] for key in ("VpcId", "CidrBlock", "AvailabilityZone") if key in properties}
        made = self.call("ec2", "create_subnet", **arguments)["Subnet"]
        return made["SubnetId"], {"SubnetId": made["SubnetId"], "AvailabilityZone": made["AvailabilityZone"],
                                  "VpcId": properties["VpcId"]}

    def delete(self, physical, properties):
        self.call("ec2", "delete_subnet", SubnetId=physical)


class SecurityGroup(Kept):
    def create(self, properties, name):
        made = self.call("ec2", "create_security_group", GroupName=self.named(properties, name, "GroupName"),
                         Description=properties["GroupDescription"], VpcId=properties.get("VpcId", ""))["GroupId"]
        return made, {"GroupId": made, "VpcId": properties.get("VpcId", "")}

    def delete(self, physical, properties):
        self.call("ec2", "delete_security_group", GroupId=physical)


class Repository(Kept):
    def create(self, properties, name):
        repository = properties.get("RepositoryName") or f"{name}-{random_text()}".lower()
        made = self.call("ecr", "create_repository", repositoryName=repository)["repository"]
        return repository, {"Arn": made["repositoryArn"], "RepositoryUri": made["repositoryUri"]}

    def delete(self, physical, properties):
        self.call("ecr", "delete_repository", repositoryName=physical,
                  force=str(properties.get("EmptyOnDelete")).lower() == "true")


class Parameter(Kept):
    def create(self, properties, name):
        parameter = self.named(properties, "/" + name, "Name")
        self.call("ssm", "put_parameter", Name=parameter, Type=properties["Type"], Value=properties["Value"])
        return parameter, {"Type": properties["Type"], "Value": properties["Value"]}

    def update(self, physical, properties):
        self.call("ssm", "put_parameter", Name=physical, Type=properties["Type"], Value=properties["Value"], Overwrite=True)

    def delete(self, physical, properties):
        self.call("ssm", "delete_parameter", Name=physical)


class Alarm(Kept):
    def create(self, properties, name):
        alarm = self.named(properties, name, "AlarmName")
        self.update(alarm, properties)
        return alarm, {"Arn": f"arn:aws:cloudwatch:{self.services.region}:{ACCOUNT}:alarm:{alarm}"}

    def update(self, physical, properties):
        names = ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "ComparisonOperator", "Dimensions",
                 "TreatMissingData", "AlarmDescription", "AlarmActions", "OKActions", "Metrics")
        arguments = {key: properties[key] for key in names if key in properties}
        for key, convert in (("Period", int), ("EvaluationPeriods", int), ("DatapointsToAlarm", int), ("Threshold", float)):
            if key in properties:
                arguments[key] = convert(properties[key])
        for metric in arguments.get("Metrics", []):
            if "ReturnData" in metric:
                metric["ReturnData"] = str(metric["ReturnData"]).lower() == "true"
            if "MetricStat" in metric:
                metric["MetricStat"]["Period"] = int(metric["MetricStat"]["Period"])
        self.call("cloudwatch", "put_metric_alarm", AlarmName=physical, **arguments)

    def delete(self, physical, properties):
        self.call("cloudwatch", "delete_alarms", AlarmNames=[physical])


class Cluster(Kept):
    def create(self, properties, name):
        cluster = self.named(properties, name, "ClusterName")
        arn = self.call("ecs", "create_cluster", clusterName=cluster)["cluster"]["clusterArn"]
        return cluster, {"Arn": arn}

    def delete(self, physical, properties):
        self.call("ecs", "delete_cluster", cluster=physical)


class RestApi(Kept):
    def create(self, properties, name):
        made = self.call("apigateway", "create_rest_api", name=properties.get("Name", name))
        return made["id"], {"RestApiId": made["id"], "RootResourceId": made.get("rootResourceId", "root")}

    def delete(self, physical, properties):
        self.call("apigateway", "delete_rest_api", restApiId=physical)


KINDS = {
    "AWS::ApiGateway::RestApi": RestApi,
    "AWS::CloudWatch::Alarm": Alarm,
    "AWS::DynamoDB::Table": Table,
    "AWS::EC2::SecurityGroup": SecurityGroup,
    "AWS::EC2::Subnet": Subnet,
    "AWS::EC2::VPC": Vpc,
    "AWS::ECR::Repository": Repository,
    "AWS::ECS::Cluster": Cluster,
    "AWS::IAM::ManagedPolicy": ManagedPolicy,
    "AWS::IAM::OIDCProvider": OidcProvider,
    "AWS::IAM::Policy": RolePolicy,
    "AWS::IAM::Role": Role,
    "AWS::IAM::RolePolicy": RolePolicy,
    "AWS::KMS::Alias": Alias,
    "AWS::KMS::Key": Key,
    "AWS::Lambda::Alias": FunctionAlias,
    "AWS::Lambda::EventSourceMapping": EventSourceMapping,
    "AWS::Lambda::Function": Function,
    "AWS::Lambda::Version": Version,
    "AWS::Logs::LogGroup": LogGroup,
    "AWS::S3::Bucket": Bucket,
    "AWS::S3::BucketPolicy": BucketPolicy,
    "AWS::SNS::Topic": Topic,
    "AWS::SQS::Queue": Queue,
    "AWS::SQS::QueuePolicy": QueuePolicy,
    "AWS::SSM::Parameter": Parameter,
    "AWS::SecretsManager::Secret": Secret,
}
