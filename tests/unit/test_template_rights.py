"""Who may do what: roles, keys and the stores' own policies. The local stack enforces the functions' roles only."""

import re

import pytest
from tests.cloudformation import (
    TEMPLATE,
    Deployed,
    definition,
    functions,
    properties,
    resources,
    state_machines,
    statements,
    states,
)

from gjeldsbro.adapters.announcements import DETAIL_TYPE, SOURCE

ROOT_USER = "arn:<AWS::Partition>:iam::<AWS::AccountId>:root"
USES = {
    "kms:Encrypt",
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKey*",
    "kms:ReEncrypt*",
    "kms:CreateGrant",
}
SECRET = "secretsmanager:GetSecretValue"
TABLES = [("RegisterTable", "RegisterKey"), ("LookupTable", "RegisterKey"), ("PartnerTable", "PartnerKey")]


def rights(role: str) -> list[dict]:
    """The statements of a role's own policy: ReceivePushRole -> ReceivePushRights."""
    return statements(role.removesuffix("Role") + "Rights")


def roles_that(*, touch: str, do: tuple[str, ...]) -> set[str]:
    """The roles with a right of these verbs on a resource whose text holds ``touch``."""
    return {
        role
        for policy in resources("AWS::IAM::Policy")
        for role in [policy.removesuffix("Rights") + "Role"]
        for statement in rights(role)
        if any(touch in resource for resource in statement["Resource"])
        and any(action.startswith(do) for action in statement["Action"])
    }


def principals(key: str, sid: str) -> set[str]:
    """The roles that a statement of a key's policy names."""
    (statement,) = [one for one in statements(key, "KeyPolicy") if one["Sid"] == sid]
    return {arn.removeprefix("<").removesuffix(".Arn>") for arn in statement["Principal"]["AWS"]}


@pytest.mark.parametrize("function", functions())
def test_a_function_has_a_role_of_its_own(function: str) -> None:
    """One role per function, for Lambda only, with one policy that is attached to nothing else."""
    name = function.removesuffix("Function")
    assert functions()[function]["Role"] == {"Fn::GetAtt": [f"{name}Role", "Arn"]}
    (trust,) = properties(f"{name}Role")["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert properties(f"{name}Role")["ManagedPolicyArns"] == [{"Ref": "FunctionBasics"}]
    assert "Policies" not in properties(f"{name}Role")
    assert properties(f"{name}Rights")["Roles"] == [{"Ref": f"{name}Role"}]


@pytest.mark.parametrize("policy", [*resources("AWS::IAM::Policy"), "FunctionBasics"])
def test_a_right_says_why(policy: str) -> None:
    """Every statement has a name that gives its reason, and grants verbs one by one."""
    for statement in statements(policy, SubnetIds="subnet-1"):
        assert re.fullmatch(r"[A-Z][A-Za-z]+", statement["Sid"])
        if statement["Effect"] == "Allow":
            assert not [action for action in statement["Action"] if "*" in action]


def test_a_wildcard_resource_is_explained() -> None:
    """A right on everything stands there only where AWS knows nothing narrower, and says so on the same line."""
    lines = [line for line in TEMPLATE.read_text().splitlines() if re.search(r'Resource: "\*"', line)]
    assert lines
    assert [line for line in lines if "# " not in line] == []


@pytest.mark.parametrize("policy", resources("AWS::IAM::Policy"))
def test_own_rights_are_on_named_things(policy: str) -> None:
    """No function and no flow has a right on a whole service."""
    for statement in statements(policy):
        assert all(resource.startswith("<") or ":<AWS::AccountId>:" in resource for resource in statement["Resource"])


@pytest.mark.parametrize("machine", state_machines())
def test_a_flow_may_run_just_its_own_functions(machine: str) -> None:
    """The functions in the definition are the functions that the role may invoke."""
    used = {one["Resource"] for one in states(definition(machine)).values() if one["Type"] == "Task"}
    (invoke,) = [one for one in rights(_role(machine)) if one["Action"] == ["lambda:InvokeFunction"]]
    assert set(invoke["Resource"]) == used


@pytest.mark.parametrize(
    ("machine", "prefix"),
    [("NightlyFetchStateMachine", "runs/nightly"), ("QuarterlyExportStateMachine", "runs/export")],
)
def test_a_flow_may_run_its_maps(machine: str, prefix: str) -> None:
    """A Distributed Map reads its manifest and starts, follows and stops executions of its own state machine."""
    allowed = {
        (action, resource) for one in rights(_role(machine)) for action in one["Action"] for resource in one["Resource"]
    }
    execution = f"arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:<{machine}.Name>"
    assert ("s3:GetObject", f"<DataBucket.Arn>/{prefix}/*") in allowed
    assert ("states:StartExecution", f"<{machine}>") in allowed
    for executions in (f"{execution}:*", f"{execution}/*"):
        assert {("states:DescribeExecution", executions), ("states:StopExecution", executions)} <= allowed


def _role(machine: str) -> str:
    return state_machines()[machine]["Role"]["Fn::GetAtt"][0]


def test_a_flow_may_log_before_it_exists() -> None:
    """Step Functions checks the rights for its logs when it makes the state machine, so they are part of the role."""
    for machine in state_machines():
        (policy,) = properties(_role(machine))["Policies"]
        actions = {action for one in policy["PolicyDocument"]["Statement"] for action in one["Action"]}
        assert {"logs:CreateLogDelivery", "logs:PutResourcePolicy", "xray:PutTraceSegments"} <= actions


def test_the_register_key_is_for_functions_and_flows() -> None:
    """Those that use the register, the lookups' records, the bucket or the hash key may use their key, nobody else."""
    expected = roles_that(touch="<RegisterTable", do=("dynamodb:",))
    expected |= roles_that(touch="<LookupTable", do=("dynamodb:",))
    expected |= roles_that(touch="<DataBucket", do=("s3:GetObject", "s3:PutObject"))
    expected |= roles_that(touch="<HashKeySecret", do=(SECRET,))
    assert principals("RegisterKey", "FunctionsAndFlowsUseTheStores") == expected


def test_no_person_can_use_the_register_key() -> None:
    """The account administers the key; what else it may, making the stores, shows nobody what is in them."""
    table, secret = (
        {"kms:ViaService": f"{name}.<AWS::Region>.amazonaws.com"} for name in ("dynamodb", "secretsmanager")
    )
    trial = {"kms:EncryptionContext:SecretVersionId": "RequestToValidateKeyAccess"}
    by_deployment = {"aws:CalledVia": ["cloudformation.amazonaws.com"]}
    allowed = {
        "DeploymentsMakeTheTable": {"StringEquals": table, "ForAnyValue:StringEquals": by_deployment},
        "DeploymentsLetDynamoDbEncryptTheTable": {
            "StringEquals": table,
            "Bool": {"kms:GrantIsForAWSResource": "true"},
        },
        "DeploymentsEncryptTheSecret": {"StringEquals": secret},
        "SecretsManagerTriesTheKey": {"StringEquals": {**secret, **trial}},
    }
    found = {}
    for statement in statements("RegisterKey", "KeyPolicy"):
        assert "kms:*" not in statement["Action"]
        if statement["Principal"]["AWS"] == ROOT_USER and USES & set(statement["Action"]):
            found[statement["Sid"]] = statement["Condition"]
            if statement["Condition"] == allowed["DeploymentsEncryptTheSecret"]:
                assert statement["Action"] == ["kms:GenerateDataKey"]
    assert found == allowed


@pytest.mark.parametrize("key", ["RegisterKey", "PartnerKey"])
def test_keys_are_used_through_the_stores_only(key: str) -> None:
    """A role cannot decrypt by itself, only through the table, bucket or secret that it has a right on."""
    for statement in statements(key, "KeyPolicy"):
        if statement["Effect"] == "Allow" and statement["Principal"].get("AWS", ROOT_USER) != ROOT_USER:
            assert statement["Condition"]["StringEquals"]["kms:ViaService"]
            assert set(statement["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}


def test_alarms_of_this_account_reach_the_topic_and_no_other_service_does() -> None:
    """CloudWatch, for an alarm of ours, may publish and use the key for it; nothing else is let in by a policy."""
    (plain, publish) = statements("AlarmTopicPolicy")
    assert (plain["Effect"], plain["Principal"], plain["Action"]) == ("Deny", "*", ["sns:Publish"])
    assert plain["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statements("AlarmTopicPolicy", Environment="local") == [publish]
    uses_the_key = [one for one in statements("PartnerKey", "KeyPolicy") if "Service" in one["Principal"]]
    for one in (publish, *uses_the_key):
        assert one["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        assert one["Condition"]["StringEquals"] == {"aws:SourceAccount": "<AWS::AccountId>"}
        assert one["Condition"]["ArnLike"]["aws:SourceArn"].endswith(":<AWS::AccountId>:alarm:*")
    assert (publish["Action"], publish["Resource"]) == (["sns:Publish"], ["<AlarmTopic>"])
    assert [one["Action"] for one in uses_the_key] == [["kms:Decrypt", "kms:GenerateDataKey*"]]
    assert Deployed().properties("AlarmTopic")["KmsMasterKeyId"] == "<PartnerKey.Arn>"


@pytest.mark.parametrize("key", ["RegisterKey", "PartnerKey", "NoticeKey"])
def test_a_key_can_be_administered(key: str) -> None:
    """KMS refuses a key whose policy nobody could change, and keys are renewed each year."""
    changers = [one for one in statements(key, "KeyPolicy") if {"kms:PutKeyPolicy", "kms:*"} & set(one["Action"])]
    assert [one["Principal"]["AWS"] for one in changers] == [ROOT_USER]
    assert properties(key)["EnableKeyRotation"] is True


def test_a_lookup_encrypts_the_person_and_cannot_read_that_again() -> None:
    """Under the NoticeKey the lookup may encrypt and no more; without a notification service nobody can decrypt."""
    *administration, encrypt = statements("NoticeKey", "KeyPolicy")
    assert (encrypt["Principal"], encrypt["Action"]) == ({"AWS": "<SearchDebtRole.Arn>"}, ["kms:Encrypt"])
    assert [one["Principal"]["AWS"] for one in administration] == [ROOT_USER]


def test_only_the_notification_service_learns_who_was_looked_up() -> None:
    """One role may decrypt the person in an event; the account administers the key and cannot use it, nor lend it."""
    service = "arn:aws:iam::123456789012:role/notifications"
    found = {
        one["Principal"]["AWS"]: USES & set(one["Action"])
        for one in statements("NoticeKey", "KeyPolicy", NotificationRoleArn=service)
    }
    assert found == {ROOT_USER: set(), "<SearchDebtRole.Arn>": {"kms:Encrypt"}, service: {"kms:Decrypt"}}
    allowed = [action for one in statements("NoticeKey", "KeyPolicy") for action in one["Action"]]
    assert not [action for action in allowed if "*" in action]


def test_records_of_lookups_are_written_by_the_lookup_and_read_by_its_display() -> None:
    """The lookup can neither read nor delete a record, the display can only read: what was recorded stays."""
    may = {
        role: {action for one in rights(role) if "<LookupTable.Arn>" in one["Resource"] for action in one["Action"]}
        for role in roles_that(touch="<LookupTable", do=("dynamodb:",))
    }
    assert may == {"SearchDebtRole": {"dynamodb:PutItem"}, "ShowLookupsRole": {"dynamodb:Query"}}


def test_only_the_lookup_announces() -> None:
    """Events on the bus come from one function, and it can put them on no other bus."""
    assert roles_that(touch="", do=("events:",)) == {"SearchDebtRole"}
    (right,) = [one for one in rights("SearchDebtRole") if "events:PutEvents" in one["Action"]]
    assert (right["Action"], right["Resource"]) == (["events:PutEvents"], ["<LookupBus.Arn>"])


def test_the_lookup_announces_nothing_but_lookups() -> None:
    """In production no other event can be put on the bus; the local stack, which knows no such condition, has none."""
    (right,) = [one for one in rights("SearchDebtRole") if "events:PutEvents" in one["Action"]]
    assert right["Condition"] == {"StringEquals": {"events:source": SOURCE, "events:detail-type": DETAIL_TYPE}}
    local = statements("SearchDebtRights", Environment="local")
    (local_right,) = [one for one in local if "events:PutEvents" in one["Action"]]
    assert local_right == {name: value for name, value in right.items() if name != "Condition"}


def test_the_partner_key_is_for_those_who_know_partners() -> None:
    """Whoever reads institutions, receivers or their secrets may use their key."""
    expected = roles_that(touch="<PartnerTable", do=("dynamodb:",))
    expected |= roles_that(touch="/receiver/", do=(SECRET,)) | roles_that(
        touch="<ClientCertificateSecret", do=(SECRET,)
    )
    expected |= roles_that(touch="<ReportBucket", do=("s3:GetObject", "s3:PutObject"))
    expected |= roles_that(touch="<AlarmTopic", do=("sns:Publish",))
    assert principals("PartnerKey", "FunctionsReadPartnersAndSecrets") == expected


def test_who_reports_tells_and_nobody_else() -> None:
    """Two functions write reports, each its flow's, and tell people; their key reaches the topic and the bucket."""
    reporters = {"ReportNightRole", "ReportExportRole"}
    assert roles_that(touch="<ReportBucket", do=("s3:",)) == reporters
    assert roles_that(touch="<AlarmTopic", do=("sns:",)) == reporters
    for role, flow in (("ReportNightRole", "nightly"), ("ReportExportRole", "export")):
        written = [one["Resource"] for one in rights(role) if "s3:PutObject" in one["Action"]]
        assert written == [[f"<ReportBucket.Arn>/{flow}/*"]]
    (use,) = [one for one in statements("PartnerKey", "KeyPolicy") if one["Sid"] == "FunctionsReadPartnersAndSecrets"]
    through = use["Condition"]["StringEquals"]["kms:ViaService"]
    assert {f"{service}.<AWS::Region>.amazonaws.com" for service in ("s3", "sns")} <= set(through)


def test_a_report_of_an_export_sees_no_package() -> None:
    """It reads how often a package was uploaded, and deletes slices without being able to read them."""
    on_packages = {
        (action, resource)
        for one in rights("ReportExportRole")
        for action in one["Action"]
        for resource in one["Resource"]
        if "/packages/" in resource
    }
    assert on_packages == {
        ("s3:DeleteObject", "<DataBucket.Arn>/packages/*"),
        ("s3:GetObject", "<DataBucket.Arn>/packages/*/delivery.json"),
    }


def test_only_functions_read_partners_secrets() -> None:
    """The key denies it to everybody but the functions whose rights ask for it (decision record 0005)."""
    (deny,) = [one for one in statements("PartnerKey", "KeyPolicy") if one["Effect"] == "Deny"]
    assert (deny["Principal"], deny["Action"]) == ({"AWS": "*"}, ["kms:Decrypt"])
    condition = deny["Condition"]
    assert condition["StringEquals"] == {"kms:ViaService": "secretsmanager.<AWS::Region>.amazonaws.com"}
    assert condition["StringNotEquals"] == {"kms:EncryptionContext:SecretVersionId": "RequestToValidateKeyAccess"}
    named = {arn.removeprefix("<").removesuffix(".Arn>") for arn in condition["ArnNotEquals"]["aws:PrincipalArn"]}
    assert named == roles_that(touch="/receiver/", do=(SECRET,)) | roles_that(
        touch="<ClientCertificateSecret", do=(SECRET,)
    )


def test_only_functions_read_the_hash_key() -> None:
    """The secret's own policy denies it to everybody but the functions whose rights ask for it."""
    deny = next(one for one in statements("HashKeySecretPolicy", "ResourcePolicy") if SECRET in one["Action"])
    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", [SECRET])
    allowed = {
        arn.removeprefix("<").removesuffix(".Arn>") for arn in deny["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]
    }
    assert allowed == roles_that(touch="<HashKeySecret", do=(SECRET,))


def test_nobody_replaces_the_hash_key_by_hand() -> None:
    """A key that a person knows turns the register into persons: only what nobody sees is ever put there."""
    deny = next(one for one in statements("HashKeySecretPolicy", "ResourcePolicy") if SECRET not in one["Action"])
    assert (deny["Effect"], deny["Principal"]) == ("Deny", "*")
    assert deny["Action"] == [
        "secretsmanager:PutSecretValue",
        "secretsmanager:UpdateSecret",
        "secretsmanager:UpdateSecretVersionStage",
    ]
    assert deny["Condition"] == {
        "ForAllValues:StringNotEquals": {"aws:CalledVia": ["cloudformation.amazonaws.com"]},
        "ArnNotEquals": {"aws:PrincipalArn": "<RotateHashKeyRole.Arn>"},
    }
    assert roles_that(touch="<HashKeySecret", do=("secretsmanager:PutSecretValue",)) == {"RotateHashKeyRole"}
    assert "SecretString" not in properties("HashKeySecret")


def test_no_deployment_makes_another_hash_key() -> None:
    """CloudFormation generates a secret anew when how it is made changes: this must stay as it was deployed first."""
    assert properties("HashKeySecret")["GenerateSecretString"] == {
        "SecretStringTemplate": '{"version": "1"}',
        "GenerateStringKey": "key",
        "PasswordLength": 64,
        "ExcludePunctuation": True,
    }


def test_few_functions_know_both_sides() -> None:
    """The hash key together with the register turns numbers into debts: no function has both that need not."""
    both = roles_that(touch="<HashKeySecret", do=(SECRET,)) & roles_that(touch="<RegisterTable", do=("dynamodb:Query",))
    assert both == {"ReceivePushRole", "SearchDebtRole", "ShowCustomerRole", "BuildSliceRole"}


@pytest.mark.parametrize("bucket", ["DataBucket", "ReportBucket"])
def test_production_takes_objects_over_tls_only(bucket: str) -> None:
    """The statement that the local stack must do without is there in production, and is the only difference."""
    production = statements(f"{bucket}Policy")
    local = statements(f"{bucket}Policy", Environment="local")
    (missing,) = [one for one in production if one not in local]
    assert missing["Sid"] == "OnlyOverTls"
    assert (missing["Effect"], missing["Principal"], missing["Action"]) == ("Deny", "*", ["s3:*"])
    assert missing["Resource"] == [f"<{bucket}.Arn>", f"<{bucket}.Arn>/*"]
    assert missing["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize(("name", "key"), [("DataBucket", "RegisterKey"), ("ReportBucket", "PartnerKey")])
def test_a_bucket_is_private_and_encrypted(name: str, key: str) -> None:
    """No public access of any kind, no access lists; data under the register's key, reports under the operators'."""
    bucket = Deployed().properties(name)
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": f"<{key}.Arn>"}
    (other,) = [one for one in statements(f"{name}Policy") if one["Sid"] == f"OnlyWithThe{key}"]
    assert other["Condition"]["StringNotEquals"] == {
        "s3:x-amz-server-side-encryption-aws-kms-key-id": f"<{key}.Arn>",
    }


@pytest.mark.parametrize(("table", "key"), TABLES)
def test_the_tables_are_encrypted_with_our_keys(table: str, key: str) -> None:
    """Customer-managed keys, and in production no table goes by accident."""
    found = Deployed().properties(table)
    assert found["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": f"<{key}.Arn>"}
    assert found["DeletionProtectionEnabled"] is True


def test_a_function_in_the_vpc_has_no_rights_on_it() -> None:
    """Lambda attaches the function to the network with its role; the function's code may not."""
    with_vpc = statements("FunctionBasics", SubnetIds="subnet-1")
    (deny,) = [one for one in with_vpc if one["Effect"] == "Deny"]
    assert deny["Action"] == ["ec2:*"]
    assert [one["Sid"] for one in statements("FunctionBasics")] == ["SendTraces"]


def test_who_scans_the_register_sees_no_loans() -> None:
    """A Scan reads everybody's items: so it may name the keys only, in the table as in its index of keys."""
    policies = resources("AWS::IAM::Policy")
    scans = [one for policy in policies for one in statements(policy) if "dynamodb:Scan" in one["Action"]]
    of_table = [one for one in scans if one["Resource"] == ["<RegisterTable.Arn>"]]
    assert [one["Condition"] for one in of_table] == [
        {
            "ForAllValues:StringEquals": {"dynamodb:Attributes": ["pk", "sk"]},
            "StringEqualsIfExists": {"dynamodb:Select": "SPECIFIC_ATTRIBUTES"},
        }
    ]
    assert {place for one in scans for place in one["Resource"] if place.startswith("<RegisterTable")} == {
        "<RegisterTable.Arn>",
        "<RegisterTable.Arn>/index/outstanding-pushes",
    }


def test_every_function_of_the_api_knows_who_is_revoked() -> None:
    """The front door reads the lists in each of them, and none may change a list."""
    api = {
        name.removesuffix("Function") + "Role"
        for name, function in functions().items()
        if any(event["Type"] == "Api" for event in function.get("Events", {}).values())
    }
    lists = {
        (role, action)
        for policy in resources("AWS::IAM::Policy")
        for role in [policy.removesuffix("Rights") + "Role"]
        for statement in rights(role)
        for keys in statement.get("Condition", {}).values()
        if "REVOKED#*" in keys.get("dynamodb:LeadingKeys", ())
        for action in statement["Action"]
    }
    assert {role for role, action in lists if action == "dynamodb:GetItem"} == api
    assert {role for role, action in lists if action != "dynamodb:GetItem"} == {"RefreshRevocationsRole"}
