"""Nothing lost, nothing twice, no false alarm, whatever falls."""

import psycopg
import pytest

from audit_core import AuditTrail
from tests.postgres import torture
from tests.postgres.server import Server, new_database

SECONDS = 10


@pytest.mark.parametrize(
    ("version", "isolation"), [(18, "serializable"), (16, "repeatable read"), (18, "read committed")]
)
def test_committed_events_are_sealed_once_and_in_order_while_sealers_and_the_server_fall(version, isolation, state):
    server = Server(version)
    try:
        play(server, isolation, state)
    finally:
        server.stop()


def play(server, isolation, state):
    url = new_database(url=server.url)
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
        connection.execute(f"ALTER DATABASE {name} SET TimeZone = 'Asia/Tokyo'")
        connection.execute(f"ALTER DATABASE {name} SET DateStyle = 'German, DMY'")
    with AuditTrail(url) as trail:
        trail.store.database.run("postgres_roles.sql")
    held = psycopg.connect(url)
    held.execute("CREATE TABLE held ()")  # a transaction that stays open all the while

    torture.torture(url, state, seconds=SECONDS, fall=server.restart)

    held.close()
    print(torture.check(url))
