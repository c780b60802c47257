"""Every request leaves its event under real servers: two workers, many clients, kill -9, and a stop in the midst."""

import pytest

from tests.postgres.server import new_database
from tests.servers.notes import make_tables
from tests.servers.running import SERVERS, running
from tests.servers.traffic import REQUEST, answered, ask_all, ask_until_stopped, check

# Each server on one of the two; tests/soak.py takes all of them on both.
DATABASES = {
    "FastAPI under uvicorn": "sqlite",
    "Flask under gunicorn with threads": "postgres",
    "Flask under gunicorn with gevent": "sqlite",
    "Flask under gunicorn with gevent, loaded before it patches": "postgres",
    "Django under gunicorn with threads": "sqlite",
    "Django under gunicorn with gevent": "postgres",
    "Django under uvicorn": "postgres",
}
LONG = {  # much as others of the list
    "Flask under gunicorn with gevent, loaded before it patches",
    "Flask under gunicorn with gevent",
    "Django under gunicorn with threads",
    "Django under uvicorn",
}
CLIENTS = 20
REQUESTS = 60


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in SERVERS]
)
def test_every_event_is_there_once_and_no_actors_are_mixed_whatever_ends(name, tmp_path, state):
    url = f"sqlite:///{tmp_path}/notes.db" if DATABASES[name] == "sqlite" else new_database()
    make_tables(url)
    with running(SERVERS[name], url, tmp_path) as server:
        answers = ask_until_stopped(server, REQUESTS, CLIENTS)
    assert "Traceback" not in server.said, server.said
    assert {answer.status for answer in answers} <= {201, 0}, "0 is no answer at all"
    actions = check(url, answers)
    assert actions[REQUEST] >= answered(answers) > REQUESTS
    killed = actions["trail.started"] - actions["trail.stopped"]  # who has begun late may have recorded nothing yet
    assert killed in {0, 1}, f"more than one was killed: {server.said}"
    assert actions["trail.started"] >= 2


@pytest.mark.parametrize(
    "name", ["FastAPI under uvicorn", "Flask under gunicorn with gevent", "Django under gunicorn with threads"]
)
def test_where_nobody_waits_for_his_event_an_orderly_stop_loses_none(name, tmp_path, state):
    url = f"sqlite:///{tmp_path}/notes.db"
    make_tables(url)
    with running(SERVERS[name], url, tmp_path, AUDIT_BUFFERED="1") as server:
        answers = ask_all(server.url, range(CLIENTS), CLIENTS)
    assert answered(answers) == CLIENTS
    check(url, answers)
