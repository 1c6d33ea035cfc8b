"""The house rules hold for every template, and each rule finds a template that breaks it."""
import unittest

import generated
import model
import rules

# A template for each rule that breaks it, as short as it can be. Each also has no sentence.
BROKEN = {
    "every_resource_has_a_sentence": "Resources: {A: {Type: 'AWS::SNS::Topic'}}",
    "every_parameter_and_output_is_described":
        "{Parameters: {P: {Type: String}}, Resources: {A: {Type: 'AWS::SNS::Topic'}}}",
    "what_holds_data_outlives_its_stack": """
        Resources:
          A: {Type: 'AWS::DynamoDB::Table', DeletionPolicy: Delete, UpdateReplacePolicy: Delete}
        """,
    "nothing_has_a_physical_name":
        "Resources: {A: {Type: 'AWS::SQS::Queue', Properties: {QueueName: documents}}}",
    "the_customers_keys_encrypt": "Resources: {A: {Type: 'AWS::SNS::Topic'}}",
    "logs_end": "Resources: {A: {Type: 'AWS::Logs::LogGroup'}}",
    "queues_redrive": "Resources: {A: {Type: 'AWS::SQS::Queue'}}",
    "a_queue_policy_names_one_queue": """
        Resources:
          A:
            Type: AWS::SQS::QueuePolicy
            Properties:
              Queues: [!Ref B, !Ref C]
              PolicyDocument: {Statement: [{Effect: Deny, Resource: [!GetAtt B.Arn]}]}
        """,
    "trust_is_conditional_only_where_that_is_documented": """
        Resources:
          A:
            Type: AWS::IAM::Role
            Properties:
              AssumeRolePolicyDocument:
                Statement:
                  - Effect: Allow
                    Principal: {Service: rds.amazonaws.com}
                    Condition: {StringEquals: {'aws:SourceAccount': '1'}}
        """,
    "flow_logs_may_do_all_of_the_documented_policy": """
        Resources:
          A:
            Type: AWS::IAM::Role
            Properties:
              AssumeRolePolicyDocument:
                Statement: [{Effect: Allow, Principal: {Service: vpc-flow-logs.amazonaws.com}}]
        """,
    "batches_fail_in_part": "Resources: {A: {Type: 'AWS::Lambda::EventSourceMapping'}}",
    "wildcards_have_a_reason": """
        Resources:
          A:
            Type: AWS::IAM::ManagedPolicy
            Properties:
              PolicyDocument: {Statement: [{Effect: Allow, Action: 's3:*', Resource: 'arn:1'}]}
        """,
    "services_go_back": "Resources: {A: {Type: 'AWS::ECS::Service', Properties: {}}}",
    "functions_shift_and_go_back": "Resources: {A: {Type: 'AWS::Lambda::Function'}}",
    "every_hop_is_encrypted": """
        Resources:
          A:
            Type: AWS::ElasticLoadBalancingV2::Listener
            Properties: {Protocol: HTTP, DefaultActions: [{Type: forward}]}
        """,
    "buckets_and_queues_refuse_the_clear": "Resources: {A: {Type: 'AWS::S3::Bucket'}}",
    "buckets_are_private": "Resources: {A: {Type: 'AWS::S3::Bucket'}}",
    "access_is_logged": "Resources: {A: {Type: 'AWS::ElasticLoadBalancingV2::LoadBalancer'}}",
    "log_lines_hold_no_token_and_no_body": """
        Resources:
          A:
            Type: AWS::ApiGateway::Stage
            Properties: {AccessLogSetting: {Format: $context.requestOverride.header.x-auth-token}}
        """,
    "tasks_keep_their_tags": "Resources: {A: {Type: 'AWS::ECS::Service'}}",
    "nested_stacks_hand_tags_down": "Resources: {A: {Type: 'AWS::CloudFormation::Stack'}}",
    "suppressions_are_explained": """
        Resources:
          A: {Type: 'AWS::SNS::Topic', Metadata: {checkov: {skip: [{id: CKV_AWS_26}]}}}
        """,
    "roles_are_taken_on_by_services_alone": """
        Resources:
          A:
            Type: AWS::IAM::Role
            Properties:
              AssumeRolePolicyDocument: {Statement: [{Effect: Allow, Principal: {AWS: '*'}}]}
        """,
}


class Rules(unittest.TestCase):
    def test_every_template_keeps_every_house_rule(self):
        for file in model.files():
            for rule in rules.RULES:
                with self.subTest(file=file, rule=rule.__name__):
                    self.assertEqual([], list(rule(model.template(file))))

    def test_every_rule_finds_what_breaks_it(self):
        self.assertEqual({rule.__name__ for rule in rules.RULES}, set(BROKEN))
        for rule in rules.RULES:
            with self.subTest(rule=rule.__name__):
                self.assertTrue(list(rule(model.load(BROKEN[rule.__name__]))))

    def test_stacks_without_a_parent_tag_what_they_make(self):
        alone = [file for file in model.files() if rules.stands_alone(file)]
        self.assertEqual(
            ["bootstrap.yaml", "containers.yaml", "global.yaml", "migration.yaml",
             "modules/ecr.yaml", "modules/pipeline.yaml", "serverless.yaml"], alone)
        for file in alone:
            with self.subTest(file=file):
                self.assertEqual([], list(rules.untagged(model.template(file))))

    def test_no_parameter_of_a_nested_stack_is_looked_up_before_it_is_there(self):
        for file in model.files():
            if not rules.stands_alone(file):
                with self.subTest(file=file):
                    self.assertEqual([], list(rules.typed_by_a_service(model.template(file))))
        early = model.load("{Parameters: {Vpc: {Type: 'AWS::EC2::VPC::Id'}}, Resources: "
                           "{A: {Type: 'AWS::SNS::Topic'}}}")
        self.assertEqual(["Vpc is looked up before it is there"],
                         list(rules.typed_by_a_service(early)))

    def test_what_has_no_tags_is_found(self):
        bare = model.load("Resources: {A: {Type: 'AWS::SNS::Topic'}}")
        self.assertEqual(["A has no tags"], list(rules.untagged(bare)))

    def test_every_role_of_a_deployment_is_bound(self):
        bound = [file for file in model.files() if file not in generated.BY_HAND]
        roles = [one for file in bound
                 for one in rules.of(model.template(file), "AWS::IAM::Role")]
        self.assertGreater(len(roles), 5)
        for file in bound:
            with self.subTest(file=file):
                self.assertEqual([], list(rules.unbounded(model.template(file))))
        bare = model.load("Resources: {A: {Type: 'AWS::IAM::Role'}}")
        self.assertEqual(["A is not bound"], list(rules.unbounded(bare)))


if __name__ == "__main__":
    unittest.main()
