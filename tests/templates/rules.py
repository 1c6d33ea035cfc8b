"""The house rules of templates. Each is a function that yields what breaks it in one template."""
import re

import generated
import model

RULES = []
HOLDS_DATA = {
    "AWS::DynamoDB::Table", "AWS::ECR::Repository", "AWS::ElastiCache::ReplicationGroup",
    "AWS::KMS::Key", "AWS::Lambda::Version", "AWS::RDS::DBCluster", "AWS::RDS::DBInstance",
    "AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::SecretsManager::Secret",
}
# Where a type says which key encrypts it.
KEYS = {
    "AWS::CodeBuild::Project": "EncryptionKey",
    "AWS::DynamoDB::Table": "SSESpecification.KMSMasterKeyId",
    "AWS::ECR::Repository": "EncryptionConfiguration.KmsKey",
    "AWS::ElastiCache::ReplicationGroup": "KmsKeyId",
    "AWS::Lambda::Function": "KmsKeyArn",
    "AWS::Logs::LogGroup": "KmsKeyId",
    "AWS::RDS::DBCluster": "KmsKeyId",
    "AWS::S3::Bucket": "BucketEncryption.ServerSideEncryptionConfiguration.0"
                       ".ServerSideEncryptionByDefault.KMSMasterKeyID",
    "AWS::SNS::Topic": "KmsMasterKeyId",
    "AWS::SQS::Queue": "KmsMasterKeyId",
    "AWS::Scheduler::Schedule": "KmsKeyArn",
    "AWS::SecretsManager::Secret": "KmsKeyId",
}
REASON_CHARACTERS_MIN = 20


def rule(check):
    RULES.append(check)
    return check


def at(value, path):
    """The value at a dotted path, or None."""
    for step in path.split("."):
        if isinstance(value, list):
            value = value[int(step)] if len(value) > int(step) else None
        elif isinstance(value, dict):
            value = value.get(step)
        else:
            return None
    return value


def walk(value):
    """Each mapping within a value."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from walk(one)


def reason(resource, name):
    """Whether the resource's metadata gives a reason by this name, long enough to be one."""
    text = at(resource, f"Metadata.Inlet.{name}")
    return isinstance(text, str) and len(text) >= REASON_CHARACTERS_MIN


def of(template, *kinds):
    for name, resource in template["Resources"].items():
        if resource["Type"] in kinds:
            yield name, resource, resource.get("Properties", {})


@rule
def every_resource_has_a_sentence(template):
    for name, resource in template["Resources"].items():
        sentence = at(resource, "Metadata.Inlet.Sentence")
        if not isinstance(sentence, str) or not re.fullmatch(r"[A-Z][^\n]{7,98}[^.\n]", sentence):
            yield f"{name} has no sentence of its own"


@rule
def every_parameter_and_output_is_described(template):
    for section in ("Parameters", "Outputs"):
        for name, spec in template.get(section, {}).items():
            if not spec.get("Description"):
                yield f"{name} is not described"


@rule
def what_holds_data_outlives_its_stack(template):
    for name, resource, _ in of(template, *HOLDS_DATA):
        policies = resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")
        if None in policies:
            yield f"{name} does not say what happens to it"
        elif not set(policies) <= {"Retain", "Snapshot"} and not reason(resource, "Disposable"):
            yield f"{name} would be deleted with what it holds"


@rule
def nothing_has_a_physical_name(template):
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        places = [properties] + [one for key, one in properties.items()
                                 if key.endswith("Config") and isinstance(one, dict)]
        for place in places:
            for key, value in place.items():
                named = re.fullmatch(r"(\w*Name|\w+Identifier|RequestsId)", key) and key not in (
                    "DomainName", "MetricName", "HandlerName", "EngineName", "DatabaseName",
                    "ServiceName", "DeploymentConfigName", "ParameterName")
                own = isinstance(value, str) or (isinstance(value, dict) and (
                    "Fn::Sub" in value or value == {"Ref": "AWS::StackName"}))
                if named and own and not reason(resource, "Name"):
                    yield f"{name} is given a name by {key}"


@rule
def the_customers_keys_encrypt(template):
    for name, resource, properties in of(template, *KEYS):
        key = at(properties, KEYS[resource["Type"]])
        if not isinstance(key, dict) and not reason(resource, "Encryption"):
            yield f"{name} is not encrypted with a key of the customer's"


@rule
def logs_end(template):
    for name, _, properties in of(template, "AWS::Logs::LogGroup"):
        if "RetentionInDays" not in properties:
            yield f"{name} is kept for ever"
    for name, _, properties in of(template, "AWS::Lambda::Function"):
        if not at(properties, "LoggingConfig.LogGroup"):
            yield f"{name} logs to a group that Lambda makes and keeps for ever"
    for name, _, properties in of(template, "AWS::ECS::TaskDefinition"):
        for container in properties["ContainerDefinitions"]:
            if not isinstance(at(container, "LogConfiguration.Options.awslogs-group"), dict):
                yield f"{name} logs nowhere, or to a group that is kept for ever"


@rule
def queues_redrive(template):
    for name, resource, properties in of(template, "AWS::SQS::Queue"):
        if "RedrivePolicy" not in properties and not reason(resource, "Terminal"):
            yield f"{name} delivers what fails for ever"


@rule
def a_queue_policy_names_one_queue(template):
    # SQS takes a policy for each queue, and refuses statements about another one.
    # Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
    for name, _, properties in of(template, "AWS::SQS::QueuePolicy"):
        statements = properties["PolicyDocument"]["Statement"]
        named = [one for statement in statements for one in generated.listed(statement["Resource"])]
        if len(properties["Queues"]) != 1 or len({str(one) for one in named}) != 1:
            yield f"{name} names several queues"


@rule
def batches_fail_in_part(template):
    for name, _, properties in of(template, "AWS::Lambda::EventSourceMapping"):
        if "ReportBatchItemFailures" not in properties.get("FunctionResponseTypes", []):
            yield f"{name} repeats a whole batch for one message"


def wildcards(value):
    for statement in walk(value):
        if "Effect" not in statement:
            continue
        actions = generated.listed(statement.get("Action", statement.get("NotAction", [])))
        resources = generated.listed(statement.get("Resource", []))
        if any(one == "*" or str(one).endswith(":*") for one in actions) or "*" in resources:
            yield statement


@rule
def wildcards_have_a_reason(template):
    for name, resource in template["Resources"].items():
        if any(wildcards(resource.get("Properties", {}))) and not reason(resource, "Wildcard"):
            yield f"{name} allows everything and does not say why"
        for statement in walk(resource.get("Properties", {})):
            if "Effect" in statement and "NotAction" in statement:
                yield f"{name} allows all but a few actions"


@rule
def services_go_back(template):
    for name, _, properties in of(template, "AWS::ECS::Service"):
        for part in ("DeploymentCircuitBreaker", "Alarms"):
            found = at(properties, f"DeploymentConfiguration.{part}") or {}
            if found.get("Enable") is not True or found.get("Rollback") is not True:
                yield f"{name} has no {part} that takes a release back"


@rule
def functions_shift_and_go_back(template):
    for name, resource, _ in of(template, "AWS::Lambda::Function"):
        if reason(resource, "Once"):
            continue
        aliases = [one for _, one, properties in of(template, "AWS::Lambda::Alias")
                   if properties["FunctionName"] == {"Ref": name}]
        groups = [at(alias, "UpdatePolicy.CodeDeployLambdaAliasUpdate.DeploymentGroupName.Ref")
                  for alias in aliases]
        if not groups or not all(groups):
            yield f"{name} has no alias that moves step by step"
        for group in filter(None, groups):
            deployment = template["Resources"][group]["Properties"]
            if not at(deployment, "AlarmConfiguration.Enabled") or "DEPLOYMENT_STOP_ON_ALARM" not \
                    in (at(deployment, "AutoRollbackConfiguration.Events") or []):
                yield f"{name} is not taken back on an alarm"


@rule
def every_hop_is_encrypted(template):
    for name, resource, properties in of(template, "AWS::ElasticLoadBalancingV2::Listener"):
        redirects = all(one["Type"] == "redirect" for one in properties["DefaultActions"])
        if properties["Protocol"] == "HTTP" and not redirects and not reason(resource, "Plain"):
            yield f"{name} takes requests in the clear"
        if properties["Protocol"] == "HTTPS" and "TLS13-1-2" not in properties.get("SslPolicy", ""):
            yield f"{name} takes old versions of TLS"
    for name, _, properties in of(template, "AWS::ElasticLoadBalancingV2::TargetGroup"):
        if {properties.get("Protocol"), properties.get("HealthCheckProtocol")} != {"HTTPS"}:
            yield f"{name} calls instances in the clear"
    for name, _, properties in of(template, "AWS::RDS::DBClusterParameterGroup"):
        if at(properties, "Parameters")["rds.force_ssl"] != "1":
            yield f"{name} lets connections be in the clear"
    for name, _, properties in of(template, "AWS::RDS::DBProxy"):
        if properties.get("RequireTLS") is not True:
            yield f"{name} lets connections be in the clear"
    for name, _, properties in of(template, "AWS::ElastiCache::ReplicationGroup"):
        if properties.get("TransitEncryptionEnabled") is not True:
            yield f"{name} lets connections be in the clear"
    for name, _, properties in of(template, "AWS::CloudFront::Distribution"):
        config = properties["DistributionConfig"]
        for behaviour in [config["DefaultCacheBehavior"], *config.get("CacheBehaviors", [])]:
            if behaviour["ViewerProtocolPolicy"] not in ("redirect-to-https", "https-only"):
                yield f"{name} takes requests in the clear"


@rule
def buckets_and_queues_refuse_the_clear(template):
    refused = set()
    for _, _, properties in of(template, "AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"):
        for statement in properties["PolicyDocument"]["Statement"]:
            clear = at(statement, "Condition.Bool.aws:SecureTransport") == "false"
            if statement["Effect"] == "Deny" and clear:
                targets = properties.get("Queues", [properties.get("Bucket")])
                refused.update(one["Ref"] for one in targets)
    for name, _, _ in of(template, "AWS::S3::Bucket", "AWS::SQS::Queue"):
        if name not in refused:
            yield f"{name} takes requests in the clear"


@rule
def buckets_are_private(template):
    for name, _, properties in of(template, "AWS::S3::Bucket"):
        blocked = properties.get("PublicAccessBlockConfiguration", {})
        wanted = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls",
                  "RestrictPublicBuckets")
        if not all(blocked.get(one) is True for one in wanted):
            yield f"{name} can be made public"
    for name, _, properties in of(template, "AWS::CloudFront::Distribution"):
        for origin in walk(at(properties, "DistributionConfig.Origins")):
            if "S3OriginConfig" in origin and "OriginAccessControlId" not in origin:
                yield f"{name} reads a bucket without origin access control"


@rule
def access_is_logged(template):
    for name, _, properties in of(template, "AWS::ElasticLoadBalancingV2::LoadBalancer"):
        attributes = {one["Key"]: one["Value"]
                      for one in properties.get("LoadBalancerAttributes", [])}
        if attributes.get("access_logs.s3.enabled") != "true":
            yield f"{name} has no access log"
    for name, _, properties in of(template, "AWS::ApiGateway::Stage"):
        if not at(properties, "AccessLogSetting.DestinationArn"):
            yield f"{name} has no access log"
    for name, _, properties in of(template, "AWS::CloudFront::Distribution"):
        if not at(properties, "DistributionConfig.Logging.Bucket"):
            yield f"{name} has no access log"


@rule
def log_lines_hold_no_token_and_no_body(template):
    for name, _, properties in of(template, "AWS::ApiGateway::Stage"):
        text = at(properties, "AccessLogSetting.Format") or ""
        if re.search(r"header|body|querystring|apiKey\b", text, re.IGNORECASE):
            yield f"{name} logs what may be secret"
        if any(one.get("DataTraceEnabled") for one in properties.get("MethodSettings", [])):
            yield f"{name} logs bodies"


@rule
def tasks_keep_their_tags(template):
    for name, _, properties in of(template, "AWS::ECS::Service"):
        if properties.get("PropagateTags") != "SERVICE":
            yield f"{name} starts tasks without tags"


@rule
def nested_stacks_hand_tags_down(template):
    for name, _, properties in of(template, "AWS::CloudFormation::Stack"):
        keys = {one["Key"] for one in properties.get("Tags", [])}
        if not {"Project", "Environment", "Shape"} <= keys:
            yield f"{name} hands no tags down"


@rule
def suppressions_are_explained(template):
    for name, resource in template["Resources"].items():
        for one in at(resource, "Metadata.checkov.skip") or []:
            if len(one.get("comment", "")) < REASON_CHARACTERS_MIN:
                yield f"{name} suppresses {one.get('id')} without a reason"
        if at(resource, "Metadata.cfn-lint"):
            yield f"{name} suppresses cfn-lint"


@rule
def roles_are_taken_on_by_services_alone(template):
    for name, _, properties in of(template, "AWS::IAM::Role"):
        for statement in properties["AssumeRolePolicyDocument"]["Statement"]:
            if not set(statement["Principal"]) <= {"Service", "Federated"}:
                yield f"{name} can be taken on by {statement['Principal']}"


# Services whose documentation shows aws:SourceAccount in the trust policy of their roles, and the
# page. Elsewhere the condition may never hold, and the role could not be taken on.
SOURCE_ACCOUNT = {
    "codebuild.amazonaws.com": "codebuild/latest/userguide/cross-service-confused-deputy-prevention",
    "codepipeline.amazonaws.com": "codepipeline/latest/userguide/cross-service-confused-deputy-prevention",
    "ecs-tasks.amazonaws.com": "AmazonECS/latest/developerguide/task_execution_IAM_role",
    "scheduler.amazonaws.com": "scheduler/latest/UserGuide/cross-service-confused-deputy-prevention",
    "vpc-flow-logs.amazonaws.com": "vpc/latest/userguide/flow-logs-iam-role",
}


@rule
def trust_is_conditional_only_where_that_is_documented(template):
    for name, _, properties in of(template, "AWS::IAM::Role"):
        for statement in properties["AssumeRolePolicyDocument"]["Statement"]:
            services = generated.listed(statement["Principal"].get("Service", []))
            if at(statement, "Condition.StringEquals.aws:SourceAccount") and \
                    not set(services) <= set(SOURCE_ACCOUNT):
                yield f"{name} is taken on by {services} under a condition that may never hold"


@rule
def flow_logs_may_do_all_of_the_documented_policy(template):
    # Source: https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-iam-role.html
    wanted = {"logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogGroups",
              "logs:DescribeLogStreams", "logs:PutLogEvents"}
    for name, _, properties in of(template, "AWS::IAM::Role"):
        if "vpc-flow-logs.amazonaws.com" not in str(properties["AssumeRolePolicyDocument"]):
            continue
        granted = {action for statement in walk(properties.get("Policies", []))
                   if "Effect" in statement for action in generated.listed(statement["Action"])}
        if wanted - granted:
            yield f"{name} may not {', '.join(sorted(wanted - granted))}"


def typed_by_a_service(template):
    """Parameters of a nested stack that CloudFormation would look up before its parent knows them."""
    for name, spec in template.get("Parameters", {}).items():
        if spec["Type"].startswith(("AWS::", "List<AWS::")):
            yield f"{name} is looked up before it is there"


def stands_alone(file):
    """Whether the template is deployed by itself, and never as a nested stack."""
    nested = {model.module_of(one) for other in model.files()
              for one in model.template(other)["Resources"].values()
              if one["Type"] == "AWS::CloudFormation::Stack"}
    return file not in nested


def untagged(template):
    """What could have tags and has none; for stacks that no parent hands tags down to."""
    for name, resource in template["Resources"].items():
        tagging = generated.schema(resource["Type"]).get("tagging", {})
        where = tagging.get("tagProperty", "/properties/Tags").removeprefix("/properties/")
        if tagging.get("taggable") and not resource.get("Properties", {}).get(where):
            yield f"{name} has no tags"


def unbounded(template):
    """Roles without the bound of all roles."""
    for name, _, properties in of(template, "AWS::IAM::Role"):
        if properties.get("PermissionsBoundary") != {"Ref": "BoundaryArn"}:
            yield f"{name} is not bound"
