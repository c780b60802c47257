"""The installer in a migration of Alembic."""

import psycopg
import pytest
from sqlalchemy import create_engine

from tests.test_documentation import ROOT, blocks

pytest.importorskip("alembic")

from alembic import command
from alembic.config import Config

ENV = """
from alembic import context
connection = context.config.attributes["connection"]
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""
MIGRATION = """
import sqlalchemy as sa
from alembic import op
from audit_core.triggers import install

revision, down_revision, branch_labels, depends_on = {revision!r}, {before!r}, None, None

def upgrade():
    {upgrade}
    install(op.get_bind(), ["patient"])

def downgrade():
    {downgrade}
"""


@pytest.fixture
def alembic(db, tmp_path):
    """Runs a command of Alembic on the database."""
    versions = tmp_path / "versions"
    versions.mkdir()
    (tmp_path / "env.py").write_text(ENV)
    table = 'op.create_table("patient", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))'
    first = {"revision": "1", "before": None, "upgrade": table, "downgrade": 'op.drop_table("patient")'}
    column = 'op.add_column("patient", sa.Column("phone", sa.Text))'
    second = {"revision": "2", "before": "1", "upgrade": column, "downgrade": 'op.drop_column("patient", "phone")'}
    for parts in (first, second):
        (versions / f"{parts['revision']}.py").write_text(MIGRATION.format(**parts))
    engine = create_engine(db.url.replace("postgresql:", "postgresql+psycopg:"))

    def run(name, revision):
        config = Config()
        config.set_main_option("script_location", str(tmp_path))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            getattr(command, name)(config, revision)

    yield run
    engine.dispose()


def test_the_migration_of_the_page(db, alembic, tmp_path):
    ((code,),) = [found for heading, found in blocks(ROOT / "docs" / "triggers.md").items() if heading == "Alembic"]
    head = MIGRATION.partition("def upgrade")[0].format(revision="1", before=None)
    (tmp_path / "versions" / "2.py").unlink()
    (tmp_path / "versions" / "1.py").write_text(head + code)
    alembic("upgrade", "1")
    db.run("INSERT INTO patient VALUES (1, 'Ann')")
    assert db.actions() == [("patient", "create", "1")]
    alembic("downgrade", "base")


def test_a_migration_makes_triggers_and_a_later_one_lets_them_follow(db, alembic):
    alembic("upgrade", "1")
    db.run("INSERT INTO patient VALUES (1, 'Ann')")
    alembic("upgrade", "2")
    db.run("UPDATE patient SET phone = '12'")
    alembic("downgrade", "1")
    db.run("UPDATE patient SET name = 'Eve'")
    assert [(action, *changes) for action, _, changes in db.told()] == [
        ("create", "id", "name"), ("update", "phone"), ("update", "name"),
    ]  # fmt: skip
    alembic("downgrade", "base")
    with pytest.raises(psycopg.errors.UndefinedTable):
        db.run("SELECT 1 FROM patient")
