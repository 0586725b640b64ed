"""A push as it is usually written: boto3, Powertools' resolver and pydantic at the top of the module.

It reads, checks and stores what ours does of a message without faults, and leaves out what only ours does: the merge
rule, revocation, throttling, and the answers to whoever does something wrong.
"""

# ruff: noqa: D101, N815 - as it is usually written, with SPEC's names

import hashlib
import hmac
import json
import os
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import uuid4

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from boto3.dynamodb.conditions import Key
from pydantic import BaseModel, Field

logger = Logger()
app = APIGatewayRestResolver()
tables = boto3.resource("dynamodb")
partners = tables.Table(os.environ["PARTNER_TABLE"])
register = tables.Table(os.environ["REGISTER_TABLE"])
secrets = boto3.client("secretsmanager")


class Loan(BaseModel):
    timestamp: datetime
    accountID: str
    accountName: str | None = None
    coBorrower: int


class RepaymentLoan(Loan):
    type: Literal["repaymentLoan"]
    originalBalance: int
    balance: int
    terms: int
    nominalInterestRate: int
    installmentCharges: int
    installmentChargePeriod: str


class CreditFacility(Loan):
    type: Literal["creditFacility"]
    creditLimit: int
    interestBearingBalance: int
    nonInterestBearingBalance: int
    nominalInterestRate: int
    installmentCharges: int
    installmentChargePeriod: str


class ChargeCard(Loan):
    type: Literal["chargeCard"]
    interestBearingBalance: int
    nonInterestBearingBalance: int


class Customer(BaseModel):
    customerID: str
    financialInstitutionID: str
    loans: list[Annotated[RepaymentLoan | CreditFacility | ChargeCard, Field(discriminator="type")]]


class Organization(BaseModel):
    providerID: str
    customers: list[Customer]


@app.post("/debt-information/v1/loans")
def receive_loans():
    """Store a push."""
    message = Organization.model_validate_json(app.current_event.body)
    assert message.providerID.rpartition(":")[2] in app.current_event.request_context.identity.client_cert.subject_dn
    secret = json.loads(secrets.get_secret_value(SecretId=os.environ["HASH_KEY_SECRET"])["SecretString"])
    for customer in message.customers:
        institution = customer.financialInstitutionID
        assert partners.get_item(Key={"pk": "INSTITUTION", "sk": institution}, ConsistentRead=True)["Item"]
        partners.query(KeyConditionExpression=Key("pk").eq("DATASET"), ConsistentRead=True)
        key = hmac.new(secret["key"].encode(), customer.customerID.encode(), hashlib.sha256).hexdigest()
        register.query(KeyConditionExpression=Key("pk").eq(key), ConsistentRead=True)
        for loan in customer.loans:
            sort_key = f"P#{institution}#{message.providerID}#{loan.type}#{loan.accountID}"
            register.put_item(Item={"pk": key, "sk": sort_key, "loans": loan.model_dump_json()})
    logger.info("PUSH_RECEIVED", extra={"customers": len(message.customers)})
    return {"timestamp": datetime.now(UTC).isoformat(), "uuid": str(uuid4())}


def lambda_handler(event, context):
    """Answer an API Gateway request."""
    return app.resolve(event, context)
