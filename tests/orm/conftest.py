import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from audit_core import AuditTrail
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.orm.models import Base
from tests.postgres.server import new_database


@pytest.fixture(params=["file", "memory", "postgres"])
def place(request, tmp_path):
    """The application's database, and the trail's URL."""
    if request.param == "postgres":
        url = new_database()
        return url.replace("postgresql:", "postgresql+psycopg:"), url
    file = f"sqlite:///{tmp_path / 'app.db'}"
    return file, (file if request.param == "file" else "memory:")


@pytest.fixture
def trail(place):
    with AuditTrail(place[1], lifecycle=False) as trail:
        yield trail


@pytest.fixture
def engine(place):
    engine = create_engine(place[0])
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
