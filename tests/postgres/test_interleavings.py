"""Whatever the order of two transactions and the sealer: none waits for another, and what commits is sealed once."""

import pytest

from tests.postgres import interleavings
from tests.postgres.server import NEWEST_AND_AT_LENGTH_OLDEST, new_database

ORDERS = 60


@pytest.mark.parametrize("version", NEWEST_AND_AT_LENGTH_OLDEST)
def test_in_every_order_what_is_committed_is_sealed_once_and_nobody_waits(state, version):
    assert interleavings.play(new_database(version), ORDERS) == ORDERS
