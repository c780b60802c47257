"""Nothing lost, nothing twice, no false alarm, whatever falls."""

import pytest

from tests.postgres import torture
from tests.postgres.server import Server

SECONDS = 4


@pytest.mark.parametrize(
    ("version", "isolation"), [(18, "serializable"), pytest.param(16, "repeatable read", marks=pytest.mark.long)]
)
def test_committed_events_are_sealed_once_and_in_order_while_sealers_and_the_server_fall(version, isolation, state):
    server = Server(version)
    try:
        assert torture.play(server, isolation, state, SECONDS) > 50
    finally:
        server.stop()
