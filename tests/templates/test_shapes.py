"""Both shapes in both environments: what is wired fits, and what is made is what was agreed on."""
import json
import unittest

import costs
import generated
import model
import rules


def stacks(file):
    return list(rules.of(model.template(file), "AWS::CloudFormation::Stack"))


class Wiring(unittest.TestCase):
    def test_a_root_only_wires(self):
        for shape in model.SHAPES:
            kinds = {one["Type"] for one in model.template(f"{shape}.yaml")["Resources"].values()}
            self.assertEqual({"AWS::CloudFormation::Stack"}, kinds)

    def test_a_module_is_given_what_it_asks_for_and_nothing_else(self):
        for file in model.files():
            for name, resource, properties in stacks(file):
                with self.subTest(file=file, stack=name):
                    declared = model.template(model.module_of(resource)).get("Parameters", {})
                    given = set(properties.get("Parameters", {}))
                    needed = {key for key, spec in declared.items() if "Default" not in spec}
                    self.assertEqual(set(), given - set(declared))
                    self.assertEqual(set(), needed - given)

    def test_only_outputs_that_are_there_are_asked_for(self):
        for file in model.files():
            modules = {name: model.module_of(one) for name, one, _ in stacks(file)}
            body = model.template(file)
            for found in rules.walk([body["Resources"], body.get("Outputs", {})]):
                for target in asked(found):
                    stack, _, output = target.partition(".Outputs.")
                    if output:
                        with self.subTest(file=file, output=target):
                            self.assertIn(output, model.template(modules[stack])["Outputs"])

    def test_every_module_is_used(self):
        used = {model.module_of(one) for file in model.files() for _, one, _ in stacks(file)}
        alone = {file for file in model.files() if rules.stands_alone(file)}
        self.assertEqual(set(model.files()), used | alone)
        self.assertEqual(set(), used & alone)

    def test_every_combination_of_engines_resolves(self):
        combinations = list(model.every_combination())
        self.assertEqual(28, len(combinations))
        for environment, shape, changed in combinations:
            with self.subTest(environment=environment, shape=shape, changed=changed):
                made = model.environment(environment, shape, **changed)
                self.assertGreater(len(made), 90)
                for one in made:
                    self.assertNotIn("'none'", str(one.properties.get("VpcConfig", "")))

    def test_a_stack_without_a_parent_is_deployed_without_an_upload(self):
        for file in filter(rules.stands_alone, model.files()):
            with self.subTest(file=file):
                self.assertLessEqual((model.DEPLOY / file).stat().st_size, 51_200)

    def test_the_error_page_of_the_front_door_is_there(self):
        config = model.template("modules/cdn.yaml")["Resources"]["Distribution"]["Properties"]
        for one in config["DistributionConfig"]["CustomErrorResponses"]:
            page = one["ResponsePagePath"].removeprefix("/static/")
            self.assertTrue((model.DEPLOY / "static" / page).exists(), page)

    def test_the_small_stacks_resolve(self):
        def kinds(file, **values):
            return {one.kind for one in model.resolve(file, values)}

        declared = model.template("migration.yaml")["Parameters"]
        needed = {key: "given" for key, spec in declared.items() if "Default" not in spec}
        needed.update(Environment="staging", Architecture="arm64", Shape="serverless")
        self.assertIn("AWS::Lambda::Function", kinds("migration.yaml", **needed))
        tasks = kinds("migration.yaml", **{**needed, "Shape": "containers"})
        self.assertIn("AWS::ECS::TaskDefinition", tasks)
        self.assertNotIn("AWS::Lambda::Function", tasks)
        elsewhere = {"Environment": "production", "ArtifactBucket": "b", "ArtifactPrefix": "r/"}
        self.assertEqual({"AWS::CloudFormation::Stack", "AWS::WAFv2::WebACL", "AWS::Logs::LogGroup",
                          "AWS::WAFv2::LoggingConfiguration", "AWS::CertificateManager::Certificate"},
                         kinds("global.yaml", **elsewhere, Waf="block", **model.OWN_DOMAIN))
        self.assertEqual(set(), kinds("global.yaml", **elsewhere, Waf="off"))
        self.assertEqual({"AWS::ECR::Repository"},
                         kinds("modules/ecr.yaml", Environment="staging", KeyArn="arn:1"))

    def test_both_zones_are_named_and_used(self):
        for shape in model.SHAPES:
            made = model.environment("production", shape)
            zones = {one.properties["AvailabilityZone"] for one in made
                     if one.kind == "AWS::EC2::Subnet"}
            self.assertEqual({"us-east-1a", "us-east-1b"}, zones)

    def test_only_what_the_parameters_ask_for_is_made(self):
        def kinds(shape, **changed):
            return {one.kind for one in model.environment("staging", shape, **changed)}

        plain = kinds("serverless")
        self.assertIn("AWS::DynamoDB::Table", plain)
        for absent in ("AWS::EC2::VPC", "AWS::RDS::DBCluster", "AWS::WAFv2::WebACL",
                       "AWS::ElastiCache::ReplicationGroup", "AWS::Route53::RecordSet"):
            self.assertNotIn(absent, plain)
        aurora = kinds("serverless", Store="aurora", Cache="redis", InNetwork="yes")
        self.assertNotIn("AWS::DynamoDB::Table", aurora)
        self.assertLessEqual({"AWS::EC2::VPC", "AWS::RDS::DBProxy",
                              "AWS::ElastiCache::ReplicationGroup"}, aurora)
        self.assertIn("AWS::WAFv2::WebACL", kinds("serverless", Waf="count"))
        self.assertIn("AWS::Route53::RecordSet", kinds("containers", **model.OWN_DOMAIN))
        self.assertNotIn("AWS::ApplicationAutoScaling::ScalableTarget",
                         kinds("containers", Serving="no"))

    def test_plain_http_is_redirected_where_there_is_a_certificate(self):
        def listeners(**changed):
            return {(one.properties["Protocol"], one.properties["DefaultActions"][0]["Type"])
                    for one in model.environment("staging", "containers", **changed)
                    if one.kind == "AWS::ElasticLoadBalancingV2::Listener"}

        self.assertEqual({("HTTPS", "forward"), ("HTTP", "redirect")},
                         listeners(**model.OWN_DOMAIN))
        self.assertEqual({("HTTP", "forward")}, listeners())


def asked(mapping):
    """The targets of Fn::GetAtt and Fn::Sub in one mapping."""
    if "Fn::GetAtt" in mapping:
        value = mapping["Fn::GetAtt"]
        yield ".".join(value) if isinstance(value, list) else value
    if "Fn::Sub" in mapping:
        value = mapping["Fn::Sub"]
        text = value[0] if isinstance(value, list) else value
        for part in text.split("${")[1:]:
            yield part.split("}")[0]


class Environments(unittest.TestCase):
    def test_a_parameter_file_says_all_that_a_root_asks_for(self):
        for shape in model.SHAPES:
            declared = model.template(f"{shape}.yaml")["Parameters"]
            for environment in model.ENVIRONMENTS:
                with self.subTest(shape=shape, environment=environment):
                    given = model.environment_file(environment, shape)["Parameters"]
                    needed = {key for key, spec in declared.items() if "Default" not in spec}
                    self.assertEqual(set(), set(given) - set(declared))
                    self.assertEqual(set(), needed - set(given) - set(model.FROM_THE_DEPLOYER))
                    self.assertEqual(environment, given["Environment"])
                    self.assertTrue(all(isinstance(one, str) for one in given.values()))

    def test_both_files_of_a_shape_say_the_same_things(self):
        for shape in model.SHAPES:
            staging, production = (
                list(model.environment_file(one, shape)["Parameters"])
                for one in model.ENVIRONMENTS)
            self.assertEqual(staging, production)

    def test_latency_is_the_same_in_both_units(self):
        for shape in model.SHAPES:
            for environment in model.ENVIRONMENTS:
                given = model.environment_file(environment, shape)["Parameters"]
                self.assertEqual(float(given["LatencyMs"]), 1000 * float(given["LatencySeconds"]))

    def test_production_is_guarded_and_staging_is_cheap(self):
        for shape in model.SHAPES:
            production = model.given("production", shape)
            self.assertEqual("block", production["Waf"])
            self.assertEqual("true", production["DeletionProtection"])
            self.assertEqual("both", production["EndpointZones"])
            self.assertEqual("off", model.given("staging", shape)["Waf"])


class Costs(unittest.TestCase):
    def test_a_month_is_the_sum_of_quantity_times_price(self):
        found = {line.what: line for line in costs.lines("staging", "serverless")}
        gateway = found["API Gateway: a request a document and a read"]
        self.assertAlmostEqual(1.1, gateway.quantities["small"])
        self.assertAlmostEqual(1.1 * 3.50, gateway.amounts["small"])
        total = costs.totals("staging", "serverless")
        self.assertAlmostEqual(total["small"],
                               sum(line.amounts["small"] for line in found.values()))
        self.assertLess(total["small"], total["middle"])
        self.assertLess(total["middle"], total["large"])

    def test_what_a_line_counts_is_what_the_templates_make(self):
        table = costs.prices()
        fixed = {(use["price"], shape): use["fixed"] for use in table["uses"] if "fixed" in use
                 and not use.get("when") for shape in use["shapes"]}
        kinds = {"alarms": "AWS::CloudWatch::Alarm", "keys": "AWS::KMS::Key",
                 "secrets": "AWS::SecretsManager::Secret",
                 "dashboards": "AWS::CloudWatch::Dashboard"}
        for shape in model.SHAPES:
            made = [one.kind for one in model.environment("staging", shape)]
            for price, kind in kinds.items():
                with self.subTest(shape=shape, kind=kind):
                    self.assertEqual(made.count(kind), fixed[price, shape])

    def test_every_price_is_used_and_every_use_has_a_price(self):
        table = costs.prices()
        self.assertEqual(set(table["prices"]), {use["price"] for use in table["uses"]})

    def test_a_use_names_parameters_that_there_are(self):
        for use in costs.prices()["uses"]:
            for shape in use["shapes"]:
                declared = model.template(f"{shape}.yaml")["Parameters"]
                named = set(use.get("times", [])) | set(use.get("when", {}))
                self.assertEqual(set(), named - set(declared), use["what"])


class Rules(unittest.TestCase):
    def refused(self, environment, shape, **changed):
        """The rules of a root that these parameters break."""
        values = {**model.given(environment, shape), **changed}
        resolved = model.resolver(f"{shape}.yaml", values)
        return [name for name, rule in model.template(f"{shape}.yaml")["Rules"].items()
                if resolved._test(rule["RuleCondition"])
                and not all(resolved._test(one["Assert"]) for one in rule["Assertions"])]

    def test_production_of_containers_is_refused_without_a_domain_name(self):
        bare = {"DomainName": ""}
        self.assertEqual(["ProductionHasACertificate"],
                         self.refused("production", "containers", **bare))
        self.assertEqual([], self.refused("production", "containers"))
        self.assertEqual([], self.refused("staging", "containers", **bare))

    def test_engines_of_a_network_are_refused_outside_of_one(self):
        for changed in ({"Store": "aurora"}, {"Cache": "redis"}):
            self.assertEqual(["EnginesInTheNetwork"],
                             self.refused("staging", "serverless", InNetwork="no", **changed))
            self.assertEqual([], self.refused("staging", "serverless", InNetwork="yes", **changed))


class Generated(unittest.TestCase):
    def test_what_is_drawn_up_from_the_templates_is_up_to_date(self):
        for path, text in generated.everything().items():
            with self.subTest(path=path.name):
                self.assertTrue(path.exists() and path.read_text() == text,
                                f"run tests/templates/run --write and look at {path.name}")

    def test_the_golden_lists_keep_what_holds_data(self):
        for shape in model.SHAPES:
            for environment in model.ENVIRONMENTS:
                lines = generated.golden(environment, shape).splitlines()
                for wanted in ("Queue/Queue AWS::SQS::Queue Retain",
                               "Table/Table AWS::DynamoDB::Table Retain",
                               "Bucket/Bucket AWS::S3::Bucket Retain"):
                    self.assertIn(wanted, lines)

    def test_changed_routes_are_a_new_deployment(self):
        text = generated.ROUTES.read_text()
        self.assertEqual(text, generated.routes())
        changed = text.replace("HttpMethod: GET", "HttpMethod: HEAD", 1)
        self.assertNotEqual(text, changed)
        original = generated.ROUTES
        try:
            class Changed:
                @staticmethod
                def read_text():
                    return changed
            generated.ROUTES = Changed
            self.assertNotEqual(generated.routes(), changed)
        finally:
            generated.ROUTES = original

    def test_a_policy_fits_into_what_iam_holds(self):
        for name, _, properties in rules.of(model.template("bootstrap.yaml"),
                                            "AWS::IAM::ManagedPolicy"):
            compact = json.dumps(properties["PolicyDocument"], separators=(",", ":"))
            self.assertLess(len(compact), generated.POLICY_CHARACTERS_MAX, name)


if __name__ == "__main__":
    unittest.main()
