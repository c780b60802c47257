"""Alembic in a project whose database holds the trail too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine

pytest.importorskip("alembic")
ENV = """
import logging
from alembic import context
from sqlalchemy import create_engine
from tests.orm.models import Base

logging.basicConfig(level=logging.INFO)
with create_engine(context.get_x_argument(as_dictionary=True)["url"]).connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, include_schemas=True)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.fixture
def alembic(place, tmp_path):
    """Runs a command of it."""
    if place[1] == "memory:":
        pytest.skip("a memory trail has no tables")
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "migrations" / "env.py").write_text(ENV)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\npath_separator = os\n")

    def run(*arguments):
        command = [sys.executable, "-m", "alembic", "-x", f"url={place[0]}", *arguments]
        path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )

    return run


def test_alembic_check_stays_quiet(alembic, place, trail):
    engine = create_engine(place[0])
    # In a process of its own: once SQLAlchemy has added a foreign key of a circle by ALTER, it makes none in place.
    make = "import sys; from sqlalchemy import create_engine; from tests.orm.models import Base; "
    make += "Base.metadata.create_all(create_engine(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", make, place[0]], check=True)
    trail.record("trail.begins")
    trail.flush()
    found = alembic("check")
    assert found.returncode == 0, found.stderr
    assert "No new upgrade operations detected" in found.stdout
    assert "audit_" not in found.stdout + found.stderr.replace("audit_core", "")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE audit_events_of_mine (id integer)")
    found = alembic("check")
    assert found.returncode != 0
    assert "audit_events_of_mine" in found.stderr
    engine.dispose()
