"""What must hold of template.yaml as a whole, and of the names that tie it to code, events and flows."""

import json
import re
from pathlib import Path

import pytest
from tests.cloudformation import ROOT, TEMPLATE, Deployed, functions, lint, properties, resources, template

SNAKE = re.compile(r"(?<!^)(?=[A-Z])")


def folder(function: str) -> str:
    """FetchPagesFunction -> fetch_pages."""
    return SNAKE.sub("_", function.removesuffix("Function")).lower()


def test_the_template_is_clean_to_cfn_lint() -> None:
    """cfn-lint, with the SAM transform, has nothing to say about the template."""
    assert lint(TEMPLATE.read_text()) == []


def test_every_parameter_is_described() -> None:
    """Whoever deploys reads what a parameter does in the template itself."""
    assert [name for name, parameter in template()["Parameters"].items() if not parameter.get("Description")] == []


@pytest.mark.parametrize("function", functions())
def test_a_function_is_called_after_its_folder(function: str) -> None:
    """FetchPagesFunction is functions/fetch_pages/fetch_pages.py, and has a sample event of that name."""
    name = folder(function)
    assert functions()[function]["CodeUri"] == f"functions/{name}"
    assert functions()[function]["Handler"] == f"{name}.lambda_handler"
    assert (ROOT / "functions" / name / f"{name}.py").is_file()
    assert (ROOT / "events" / f"{name}.json").is_file()


def test_no_folder_or_event_is_left_over() -> None:
    """Every folder in functions/ is deployed, and every sample event belongs to one."""
    expected = {folder(function) for function in functions()}
    assert {path.name for path in (ROOT / "functions").iterdir() if path.is_dir()} == expected
    assert {path.stem for path in (ROOT / "events").glob("*.json")} == expected


@pytest.mark.parametrize("function", functions())
def test_a_function_logs_where_retention_is_set(function: str) -> None:
    """Each function has a log group of its own, made before its first line, that forgets after a while."""
    group = functions()[function]["LoggingConfig"]["LogGroup"]["Ref"]
    assert group == function.removesuffix("Function") + "LogGroup"
    assert properties(group)["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_no_log_group_keeps_its_lines_for_ever() -> None:
    """All log groups, the flows' and the API's too, have a retention."""
    groups = resources("AWS::Logs::LogGroup")
    assert groups
    assert all(group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())


def test_the_variables_are_those_that_the_functions_read() -> None:
    """Every field of a function's settings is a variable of the template, and every variable is read by somebody."""
    read = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL"}
    package = ROOT / "layers" / "gjeldsbro" / "gjeldsbro"
    for path in (*(ROOT / "functions").glob("*/*.py"), *package.glob("*wiring.py")):
        read |= _settings(path)
    assert set(template()["Globals"]["Function"]["Environment"]["Variables"]) == read


def _settings(path: Path) -> set[str]:
    body = re.search(r"class \w+\(Settings\):\n(.*?)(?=\n\S|\Z)", path.read_text(), re.DOTALL)
    return set() if body is None else {name.upper() for name in re.findall(r"^    (\w+):", body[1], re.MULTILINE)}


def test_the_api_waits_longer_than_its_function() -> None:
    """API Gateway gives up after 29 s, so a function behind it must have answered by then."""
    behind = [one for one in functions().values() if any(e["Type"] == "Api" for e in one.get("Events", {}).values())]
    assert len(behind) >= 2
    assert all(function["Timeout"] <= 29 for function in behind)


def test_a_lookup_ends_before_the_api_gives_up() -> None:
    """The longest wait for institutions leaves time for what comes before and after it."""
    parameter = template()["Parameters"]["MaxLookupSeconds"]
    assert parameter["Default"] <= parameter["MaxValue"] <= functions()["SearchDebtFunction"]["Timeout"] - 3


def test_a_lease_outlives_every_function() -> None:
    """A dataset's lease is longer than any invocation (decision 5), so that two runs never write side by side."""
    from gjeldsbro.services.night.leases import LEASE_SECONDS

    assert max(function["Timeout"] for function in functions().values()) < LEASE_SECONDS


def test_answers_of_api_gateway_follow_spec() -> None:
    """Whatever API Gateway answers by itself has the three fields of SPEC 4.4 and is JSON."""
    answers = properties("Api")["GatewayResponses"]
    assert {"REQUEST_TOO_LARGE", "THROTTLED", "DEFAULT_4XX", "DEFAULT_5XX"} <= answers.keys()
    for answer in answers.values():
        (body,) = answer["ResponseTemplates"].values()
        assert json.loads(body).keys() == {"errorMessage", "timestamp", "uuid"}


def test_whoever_may_try_again_is_told_when() -> None:
    """Throttling and faults of ours carry Retry-After (contract)."""
    answers = properties("Api")["GatewayResponses"]
    for name in ("THROTTLED", "QUOTA_EXCEEDED", "INTEGRATION_TIMEOUT", "DEFAULT_5XX"):
        assert "Retry-After" in answers[name]["ResponseParameters"]["Headers"]


def test_no_way_round_mutual_tls() -> None:
    """With a domain name, it demands client certificates and the API's default address is closed."""
    domain = {"DomainName": "api.example.no", "CertificateArn": "arn", "TruststoreUri": "s3://trust/store.pem"}
    assert Deployed(**domain).properties("Api")["DisableExecuteApiEndpoint"] is True
    assert Deployed(**domain).properties("ApiDomain")["MutualTlsAuthentication"] == {
        "TruststoreUri": "s3://trust/store.pem"
    }


def test_a_local_stack_refuses_real_people() -> None:
    """A rule of the template keeps production's identity numbers out of a local stack."""
    rule = template()["Rules"]["ProductionNumbersStayInProduction"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "Environment"}, "local"]}
    assert rule["Assertions"][0]["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "IdentityNumbers"}, "production"]}]}


def test_nobody_sends_under_another_companys_name() -> None:
    """Our providerID has no default: a production deployment that does not say it stops, and the local one says it."""
    assert "Default" not in template()["Parameters"]["ProviderId"]
    production, _, local = (ROOT / "samconfig.toml").read_text().partition("[local.")
    assert "ProviderId=" not in production
    assert "ProviderId=" in local


def test_plain_http_is_for_the_local_stack() -> None:
    """Institutions are fetched over HTTPS only, but in a local stack (contract)."""
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]
    assert Deployed().resolve(variables)["ALLOW_PLAIN_HTTP"] == "false"
    assert Deployed(Environment="local").resolve(variables)["ALLOW_PLAIN_HTTP"] == "true"


def test_the_stores_keep_no_debt_history() -> None:
    """Neither versions of objects nor earlier states of the register can be called back (decision 7)."""
    assert "VersioningConfiguration" not in properties("DataBucket")
    recovery = properties("RegisterTable")["PointInTimeRecoverySpecification"]
    assert recovery == {"PointInTimeRecoveryEnabled": False}
    rules = properties("DataBucket")["LifecycleConfiguration"]["Rules"]
    assert {"runs/", "packages/"} == {rule["Prefix"] for rule in rules if "ExpirationInDays" in rule}


def test_the_record_of_lookups_can_be_restored_and_forgets() -> None:
    """It holds no debt and cannot be fetched anew: recovery is on; and its items expire (decision record 0018)."""
    table = properties("LookupTable")
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    rows = [line for line in (ROOT / "docs" / "architecture.md").read_text().splitlines() if "| LookupTable" in line]
    assert ["`LookupRetentionDays`" in row for row in rows] == [True]


def test_what_is_kept_for_a_while_expires() -> None:
    """Callers' counts would otherwise stay for good: each ten seconds leave one (decision record 0013)."""
    expires = {"AttributeName": "expires", "Enabled": True}
    tables = ("PartnerTable", "LookupTable", "RegisterTable")
    found = {name: properties(name).get("TimeToLiveSpecification") for name in tables}
    assert found == {"PartnerTable": expires, "LookupTable": expires, "RegisterTable": None}


def test_the_documented_retention_is_the_real_one() -> None:
    """The table of stores in docs/architecture.md names the days that the bucket's rules have."""
    days = {
        rule["Prefix"]: rule["ExpirationInDays"]
        for rule in properties("DataBucket")["LifecycleConfiguration"]["Rules"]
        if "ExpirationInDays" in rule
    }
    rows = [line for line in (ROOT / "docs" / "architecture.md").read_text().splitlines() if "| DataBucket" in line]
    for prefix, kept in days.items():
        of_prefix = [row for row in rows if f"`{prefix}" in row]
        assert of_prefix
        said = f"`{kept['Ref']}`" if isinstance(kept, dict) else f"{kept} days"
        assert [row for row in of_prefix if said not in row] == []


def test_reports_are_forgotten_after_a_while() -> None:
    """All of the report bucket expires, and the table of stores says when."""
    rules = properties("ReportBucket")["LifecycleConfiguration"]["Rules"]
    (expiring,) = [rule for rule in rules if "ExpirationInDays" in rule]
    assert (expiring["Prefix"], expiring["ExpirationInDays"]) == ("", {"Ref": "ReportRetentionDays"})
    rows = [line for line in (ROOT / "docs" / "architecture.md").read_text().splitlines() if "| ReportBucket" in line]
    assert ["`ReportRetentionDays`" in row for row in rows] == [True]


def test_logs_of_the_api_have_a_role_first() -> None:
    """API Gateway refuses a stage with access logs in a Region whose role for them is not set yet."""
    assert template()["Resources"]["Api"]["DependsOn"] == "ApiGatewayAccount"


def test_an_address_is_told_only_if_there_is_one() -> None:
    """SNS refuses a subscription without an address."""
    assert template()["Resources"]["AlarmSubscription"]["Condition"] == "HasAlarmEmail"
    assert not Deployed().holds("HasAlarmEmail")
    assert Deployed(AlarmEmail="duty@example.no").holds("HasAlarmEmail")


def test_the_contract_outputs_are_there() -> None:
    """Scripts and the operator command find everything through the stack's outputs."""
    assert {
        "ApiUrl",
        "NightlyFetchStateMachineArn",
        "QuarterlyExportStateMachineArn",
        "RegisterTableName",
        "PartnerTableName",
        "DataBucketName",
        "ReportBucketName",
        "SearchUrl",
        "LookupTableName",
        "LookupBusName",
        "NoticeKeyArn",
        "AlarmTopicArn",
        "DashboardName",
    } <= template()["Outputs"].keys()


def test_revocation_lists_are_fetched_by_the_hour() -> None:
    """The schedule asks for all lists, and can be switched off with the others."""
    (event,) = functions()["RefreshRevocationsFunction"]["Events"].values()
    assert event["Type"] == "ScheduleV2"
    schedule = event["Properties"]
    assert re.fullmatch(r"cron\(\d+ \* \* \* \? \*\)", schedule["ScheduleExpression"])
    assert (schedule["State"], schedule["Input"]) == ({"Ref": "ScheduleState"}, "{}")
    assert Deployed().resolve(schedule["Name"]).startswith("<AWS::StackName>-")


def test_who_is_shut_out_for_an_old_list_was_announced_days_before() -> None:
    """By default there are days between the alarm, when a list ends, and the first 503."""
    assert int(Deployed().parameters["RevocationGraceDays"]) >= 3


def test_lookups_that_wait_leave_room_for_pushes_and_nights() -> None:
    """One institution that hangs must not let lookups take all that the account may run at once."""
    limit = functions()["SearchDebtFunction"]["ReservedConcurrentExecutions"]
    assert limit == {"Fn::If": ["LimitsLookups", {"Ref": "MaxConcurrentLookups"}, {"Ref": "AWS::NoValue"}]}
    assert template()["Parameters"]["MaxConcurrentLookups"]["Default"] > 0


def test_one_caller_cannot_use_up_what_all_may_send() -> None:
    """API Gateway's limit counts before a caller is known: several at their own limit must fit below it."""
    parameters = template()["Parameters"]
    assert parameters["RequestsPerCaller"]["Default"] / 10 * 5 <= parameters["RequestsPerSecond"]["Default"]
