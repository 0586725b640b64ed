"""The enforcement of rights on moto must itself refuse, or it would prove nothing."""

import json
from contextlib import suppress

import pytest
from functions.show_customer import show_customer
from tests.cloudformation import ROOT
from tests.integration.enforcement import WITHOUT, Need, Recorder, enforced
from tests.integration.test_show_customer import CONTEXT

from gjeldsbro.errors import UnexpectedError
from gjeldsbro.services.ports import Institution, Provider

EVENT = json.loads((ROOT / "events" / "show_customer.json").read_text(encoding="utf-8"))


@pytest.fixture
def shown(aws, partners):
    """Runs show_customer on its sample event."""
    show_customer._secrets.cache_clear()
    partners.put_institution(Institution("920013015", "Testbanken AS", providers=(Provider("9908:920013015"),)))
    return lambda: show_customer.lambda_handler(EVENT, CONTEXT)


@pytest.mark.parametrize("sid", ["ReadTheCustomer", "ReadTheHashKey", "RecordTheTrail", "KnowInstitutionsAndDatasets"])
def test_a_function_fails_without_a_right_that_it_needs(shown, monkeypatch, sid) -> None:
    """With all of its statements it works; without one, AWS's refusal reaches it."""
    assert shown()
    show_customer._secrets.cache_clear()
    monkeypatch.setenv(WITHOUT, f"ShowCustomerRights/{sid}")
    with pytest.raises(UnexpectedError, match="AccessDenied"):
        shown()


def test_a_refusal_that_nobody_speaks_of_is_a_failure(shown, monkeypatch) -> None:
    """Whatever our code makes of it: its role has a statement too few."""
    monkeypatch.setenv(WITHOUT, "ShowCustomerRights/ReadTheCustomer")
    refused = pytest.raises(AssertionError, match="show_customer may not dynamodb:Query")
    with refused, enforced("this test"), suppress(UnexpectedError):
        shown()


@pytest.mark.parametrize(
    "need",
    [
        Need("dynamodb:PutItem", "<PartnerTable.Arn>", ("INSTITUTION",)),
        Need("dynamodb:Query", "<PartnerTable.Arn>", ("RECEIVER",)),
        Need("dynamodb:Query", "<PartnerTable.Arn>"),
        Need("dynamodb:PutItem", "<RegisterTable.Arn>", ("1#a",)),
        Need("secretsmanager:GetSecretValue", "<ClientCertificateSecret.Id>"),
        Need("s3:GetObject", "<DataBucket.Arn>/index/920013015/x"),
    ],
)
def test_a_call_beyond_the_policy_is_refused(need) -> None:
    """Another item, another table, another secret, another verb: the conditions count as well."""
    with pytest.raises(Exception, match="AccessDenied"):
        Recorder().check("show_customer", need)
