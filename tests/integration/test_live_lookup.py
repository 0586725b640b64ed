"""What a customer owes now, with all parts as they run: HTTP, the breaker, and its state in DynamoDB."""

import json
import socket
import time
from datetime import timedelta

import pytest
from tests.integration.raw_server import RawServer, answer
from tests.unit.lookup_world import BANK, NOW, OTHER_BANK, PERSON, LookupWorld, bank, loan, provider_of

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.breaker_items import BreakerItems
from gjeldsbro.adapters.customer_client import CustomerClient, Limits
from gjeldsbro.adapters.kept_connections import KeptConnections
from gjeldsbro.domain.loans import to_wire
from gjeldsbro.services.circuit_breaker import FAILURES, FIRST_PAUSE, CircuitBreaker
from gjeldsbro.services.customer_debt import CreditorDebt, CustomerDebt
from gjeldsbro.services.ports import Provider


class Server:
    """An institution's server that is up or down, and keeps its connections."""

    def __init__(self, institution: str, folder) -> None:
        self.is_up = True
        self._loan = {**to_wire(loan(5), timestamp=loan().timestamp, account_id="a")}
        self._institution = institution
        self.raw = RawServer(self._answer, folder=folder, keep=True)

    def _answer(self, stream: socket.socket, _: str) -> None:
        customer = {"customerID": PERSON, "financialInstitutionID": self._institution, "loans": [self._loan]}
        body = json.dumps({"providerID": provider_of(self._institution), "customers": [customer]}).encode()
        stream.sendall(answer(body, keep=True) if self.is_up else answer(b"", status="503 Down", keep=True))

    @property
    def asked(self) -> int:
        """How often."""
        return len(self.raw.heads)


@pytest.fixture
def servers(tmp_path):
    """Two institutions' servers."""
    found = {institution: Server(institution, tmp_path) for institution in (BANK, OTHER_BANK)}
    for server in found.values():
        server.raw.__enter__()
    yield found
    for server in found.values():
        server.raw.__exit__(None, None, None)


def test_an_institution_that_is_down_is_left_alone_and_found_again(aws, servers) -> None:
    """While it is, the register stands in for it and nobody waits; the other institution notices nothing."""
    institutions = [
        bank(institution, Provider(provider_of(institution), url=server.raw.url))
        for institution, server in servers.items()
    ]
    world = LookupWorld(*institutions)
    for institution in servers:
        world.store(loan(9), of=institution)
    kept = KeptConnections()
    client = CustomerClient(
        lambda: None,
        accepts="synthetic",
        allow_plain_http=True,
        connections=kept,
        clock=lambda: NOW,
        limits=Limits(pauses=()),
    )
    store = BreakerItems(aws["PARTNER_TABLE"], aws_clients.dynamodb())
    debts = [
        # two processes
        CustomerDebt(world.partners, world.register, client, CircuitBreaker(store, kept=timedelta()))
        for _ in range(2)
    ]
    lookups = 0

    def look_up(seconds: float = 0) -> dict[str, CreditorDebt]:
        nonlocal lookups
        lookups += 1
        moment = NOW + timedelta(seconds=seconds)
        found = debts[lookups % 2].of(PERSON, deadline=time.monotonic() + 5, now=moment)
        assert [current.loan.balance for current in found[1].loans] == [5]
        assert found[1].answered
        return {creditor.institution: creditor for creditor in found}

    assert look_up()[BANK].source == "institution"
    servers[BANK].is_up = False
    before = servers[BANK].asked
    for _ in range(FAILURES + 4):
        found = look_up()[BANK]
        assert (found.answered, found.source) == (False, "register")
        assert [current.loan.balance for current in found.loans] == [9]
    assert servers[BANK].asked == before + FAILURES
    assert store.states()[0].failures == FAILURES

    servers[BANK].is_up = True
    assert not look_up(1)[BANK].answered
    assert servers[BANK].asked == before + FAILURES
    assert look_up(FIRST_PAUSE.total_seconds())[BANK].answered
    assert look_up(FIRST_PAUSE.total_seconds())[BANK].answered
    assert store.states() == []
    assert servers[OTHER_BANK].asked == lookups
    assert servers[OTHER_BANK].raw.connections == 1
    kept.close()
