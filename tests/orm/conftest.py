import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from audit_core import AuditTrail
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.orm.models import Base
from tests.postgres.server import copy_of, make_trail


def on_psycopg(url):
    return url.replace("postgresql:", "postgresql+psycopg:")


def make_tables(url):
    """Of the trail and of the application."""
    make_trail(url)
    engine = create_engine(on_psycopg(url))
    Base.metadata.create_all(engine)
    engine.dispose()


@pytest.fixture(params=["file", "memory", "postgres"])
def place(request, tmp_path):
    """The application's database, and the trail's URL."""
    if request.param == "postgres":
        url = copy_of(make_tables)
        return on_psycopg(url), url
    file = f"sqlite:///{tmp_path / 'app.db'}"
    return file, (file if request.param == "file" else "memory:")


@pytest.fixture
def trail(place):
    with AuditTrail(place[1], lifecycle=False) as trail:
        yield trail


@pytest.fixture
def engine(place):
    engine = create_engine(place[0])
    if engine.name == "sqlite":
        Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def factory(engine, trail):
    factory = sessionmaker(engine)
    SQLAlchemyAuditor(trail).attach(factory)
    return factory


@pytest.fixture
def session(factory):
    with factory() as session:
        yield session
