"""From settings.DATABASES to the URLs of the trail and its outboxes."""

import pytest
from django.db import connections
from psycopg.conninfo import conninfo_to_dict

from audit_core.errors import ConfigurationError
from audit_core.postgres import PostgresDatabase
from audit_django import trail
from audit_django.databases import Database, database_of, place_of

POSTGRES = "django.db.backends.postgresql"
FULL = {"ENGINE": POSTGRES, "NAME": "clinic", "HOST": "db", "PORT": "6432", "USER": "web", "PASSWORD": "p"}


@pytest.fixture
def layout(monkeypatch):
    """The layout for these databases, as in a process that runs no tests."""

    def configure(url=None, **databases):
        given = {alias: {"TEST": {"MIRROR": None}, "OPTIONS": {}, **one} for alias, one in databases.items()}
        monkeypatch.setattr(connections, "settings", given)
        monkeypatch.setattr(trail, "under_test", lambda: False)
        monkeypatch.setattr(trail, "setting", {"DATABASES": None, "URL": url}.__getitem__)
        return trail.layout()

    return configure


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (FULL, {"dbname": "clinic", "host": "db", "port": "6432", "user": "web", "password": "p"}),
        ({"NAME": "clinic"}, {"dbname": "clinic"}),
        ({"NAME": None}, {"dbname": "postgres"}),
        ({"NAME": "clinic", "HOST": "/srv/sockets/a b"}, {"dbname": "clinic", "host": "/srv/sockets/a b"}),
        ({"NAME": "c", "HOST": "::1", "PORT": 5}, {"dbname": "c", "host": "::1", "port": "5"}),
        ({"NAME": "c", "HOST": "a,b", "PORT": "1,2"}, {"dbname": "c", "host": "a,b", "port": "1,2"}),
        ({"NAME": "c", "HOST": "a,b", "PORT": "5"}, {"dbname": "c", "host": "a,b", "port": "5,5"}),
        (
            {"NAME": "a/b?c#d%e é", "HOST": "h", "USER": "u:@/", "PASSWORD": "p:@/?#%+ é"},
            {"dbname": "a/b?c#d%e é", "host": "h", "user": "u:@/", "password": "p:@/?#%+ é"},
        ),
        (
            {"NAME": "", "OPTIONS": {"service": "clinic", "passfile": "/etc/pass word+", "sslmode": "verify-full"}},
            {"service": "clinic", "passfile": "/etc/pass word+", "sslmode": "verify-full"},
        ),
        (
            {"NAME": "c", "OPTIONS": {"pool": True, "isolation_level": 3, "options": "-c a=b", "assume_role": "boss"}},
            {"dbname": "c", "options": "-c a=b -c role=boss"},
        ),
    ],
)
def test_libpq_reads_out_of_the_url_what_django_would_tell_it(layout, settings, expected):
    url = layout(default={"ENGINE": POSTGRES, **settings}).url
    assert conninfo_to_dict(PostgresDatabase(url).conninfo) == expected


def test_each_database_has_one_outbox_whoever_connects(layout):
    found = layout(
        default=FULL,
        again={**FULL, "USER": "admin"},
        file={"ENGINE": "django.db.backends.sqlite3", "NAME": "/srv/a.db"},
        other={**FULL, "NAME": "other"},
    )
    assert (found.url, found.home) == ("postgresql://web:p@db:6432/clinic", "default")
    assert found.outboxes == ("postgresql://web:p@db:6432/other", "sqlite:////srv/a.db")


def test_a_replica_that_mirrors_another_database_has_none(layout):
    replica = {**FULL, "HOST": "replica", "TEST": {"MIRROR": "default"}}
    assert layout(default=FULL, replica=replica).outboxes == ()


@pytest.mark.parametrize("url", ["postgresql://sealer@db:6432/clinic?schema=trail", "postgres://db:6432/clinic"])
def test_a_url_of_its_own_that_leads_to_an_alias_makes_that_alias_its_home(layout, url):
    found = layout(url, default=FULL)
    assert (found.url, found.home, found.outboxes) == (url, "default", ())


def test_an_engine_that_is_neither_is_one_sentence(layout):
    with pytest.raises(ConfigurationError, match=r"'default' \(django.db.backends.dummy\) cannot hold .* AUDIT"):
        layout(default={"ENGINE": "django.db.backends.dummy", "NAME": "x"})


def test_a_url_that_libpq_does_not_take_is_one_sentence(layout):
    with pytest.raises(ConfigurationError, match="no URL of PostgreSQL"):
        layout("postgresql://h/x?nonsense=1", default=FULL)


def test_a_database_whose_settings_change_in_place_is_the_other_one_from_then_on(layout):
    layout(default=FULL | {"OPTIONS": {"sslmode": "prefer"}})
    before = database_of("default")
    connections.settings["default"]["OPTIONS"]["sslmode"] = "require"
    connections.settings["default"]["NAME"] = "test_clinic"
    after = database_of("default")
    assert (before.name, dict(before.options)) == ("clinic", {"sslmode": "prefer"})
    assert (after.name, dict(after.options)) == ("test_clinic", {"sslmode": "require"})


def test_a_name_that_comes_into_the_settings_later_must_be_one_too(settings):
    settings.AUDIT = {"READS": ["patient"]}
    assert trail.setting("READS") == ["patient"]
    settings.AUDIT["REDS"] = []
    with pytest.raises(ConfigurationError, match="REDS"):
        trail.setting("READS")


def test_a_default_port_is_no_difference():
    assert place_of(Database("postgresql", "a", "h").url) == place_of("postgresql://u@h:5432/a")


def test_engines_that_wrap_djangos_are_known(layout):
    layout(default={**FULL, "ENGINE": "tests.django.wrapper"})
    assert database_of("default").vendor == "postgresql"
