"""The project's trail, made from ``settings.AUDIT`` and ``settings.DATABASES`` when it is first needed."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from audit_core import AuditPolicy, AuditTrail, Redactor
from audit_core.errors import ConfigurationError, StoreUnavailableError, nearest
from audit_core.orm.bulk import Bulk
from audit_core.policy import ROWS_TOLD
from audit_django.databases import (
    IN_MEMORY,
    MEMORY,
    OUTBOX,
    SCHEMA,
    SQLITE,
    TABLES,
    Database,
    database_of,
    place_of,
    schema_of,
)

DEFAULTS: Mapping[str, Any] = {
    "URL": None,  # the trail's database; None is the default database
    "DATABASES": None,  # the aliases whose changes are audited; None is all of them but replicas
    "QUEUE": None,  # the URL of a Redis or Kafka in which events of no transaction wait
    "INCLUDE": None,  # "app_label" or "app_label.Model"; None is all of them but selection.NOT_AUDITED
    "EXCLUDE": (),
    "CHOOSE": None,  # a function that takes a model, or the path of one
    "READS": (),
    "RULES": (),
    "SKIP": (),
    "REDACT": {},
    "ERASABLE": False,
    "TRUSTED_PROXIES": (),
    "PROXY_HEADER": "X-Forwarded-For",
    "SOURCE": None,
    "DURABLE": True,
    "ON_FAILURE": "spill",
    "ANCHORS": (),
    "ARCHIVES": (),  # where archived months lie now, if not where they were written to
    "BULK": "record",
    "BULK_LIMIT": ROWS_TOLD,
    "TRIGGERS": False,
}
_LISTS = {"ANCHORS", "ARCHIVES", "DATABASES", "EXCLUDE", "INCLUDE", "READS", "RULES", "SKIP", "TRUSTED_PROXIES"}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the trail lies, and the outboxes that it drains beside its own."""

    url: str
    outboxes: tuple[str, ...]
    home: str | None  # the alias whose database holds the trail; None when it has a database of its own


logger = logging.getLogger("audit_core")

_held: tuple[Layout, AuditTrail] | None = None
_checked: frozenset[str] = frozenset()  # the names in settings.AUDIT, when they were last found to be known
_lock = threading.RLock()
_real_names: dict[str, str] = {}


def get_trail() -> AuditTrail:
    """The trail of this project. Follows the databases when a test runner exchanges them.

    Raises ConfigurationError for settings that cannot work.
    """
    wanted = layout()
    if (held := _held) is not None and held[0] == wanted:  # another thread may close it meanwhile
        return held[1]
    with _lock:
        if _held is None or _held[0] != wanted:
            close_trail()
            trail = make_trail(wanted)
            if wanted.home is None:  # no alias holds it, so no migration reaches it
                _create(trail)
            _hold(wanted, trail)
        return _held[1]  # type: ignore[index]  # held since the line above


def close_trail() -> None:
    """Close the trail, if there is one; the next ``get_trail`` makes it anew, from the settings of then."""
    global _held  # noqa: PLW0603 - one trail per process, like Django's own connections
    with _lock:
        if _held is not None:
            _held[1].close()
        _held = None


def setting(name: str) -> Any:
    """One of ``settings.AUDIT``. Raises ConfigurationError when it holds a name that is none."""
    global _checked  # noqa: PLW0603 - a change of one row asks for a dozen of them
    given = getattr(settings, "AUDIT", DEFAULTS)
    if type(given) is not dict or given.keys() != _checked:
        _check_names(given)
        _checked = frozenset(given)
    value = given.get(name, DEFAULTS[name])
    if isinstance(value, str) and name in _LISTS:
        raise ConfigurationError(f"settings.AUDIT[{name!r}] is {value!r}: give a list of strings, [{value!r}].")
    return value


def _check_names(given: object) -> None:
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"settings.AUDIT is a dictionary, not {given!r}.")
    if unknown := sorted(map(str, given.keys() - DEFAULTS.keys())):
        raise ConfigurationError(
            f"settings.AUDIT knows no {', '.join(unknown)}; it knows {', '.join(DEFAULTS)}."
            f"{nearest(unknown[0], DEFAULTS)}"
        )


def bulk_rule() -> Bulk:
    """What becomes of bulk operations. Raises ConfigurationError for settings that say nothing of the kind."""
    mode = setting("BULK")
    if mode not in {"record", "forbid"}:
        raise ConfigurationError(f'settings.AUDIT[\'BULK\'] is "record" or "forbid", not {mode!r}.')
    return Bulk(setting("BULK_LIMIT"), mode == "forbid")


def layout() -> Layout:
    """What the settings say just now. Raises ConfigurationError for a database that cannot hold a trail."""
    databases = tuple((alias, _database(alias)) for alias in audited_aliases())
    return _layout(databases, None if under_test() else setting("URL"))


def audited_aliases() -> list[str]:
    """The databases whose changes are audited: by default all but those that mirror another one."""
    chosen = setting("DATABASES")
    if chosen is None:
        return [alias for alias, database in connections.settings.items() if not database["TEST"]["MIRROR"]]
    if unknown := sorted(set(chosen) - set(connections.settings)):
        raise ConfigurationError(
            f"AUDIT['DATABASES'] names {', '.join(unknown)}, which DATABASES has not."
            f"{nearest(unknown[0], connections.settings)}"
        )
    return list(chosen)


def tables_in(alias: str) -> tuple[str, ...]:
    """Ours that belong into this database."""
    return TABLES if alias == layout().home else (OUTBOX,)


def schema_in(alias: str) -> str:
    """The schema of PostgreSQL that they lie in."""
    return schema_of(layout().url) if alias == layout().home else SCHEMA


def has_outbox(alias: str) -> bool:
    """Whether the trail drains this database itself; a test's trail may lie in memory instead."""
    return _database(alias) != IN_MEMORY


def under_test() -> bool:
    """Whether a test runner has set up its environment: then nothing may reach the real trail."""
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")  # noqa: SLF001 - there is no public question


def _create(trail: AuditTrail) -> None:
    """Make its tables. A server that cannot be reached just now stops no request: its events wait."""
    try:
        if not trail.store.is_created():
            trail.store.create()
            trail.outboxes[0].create()
        elif trail.erasable and trail.store.values and not trail.store.values.is_created():
            trail.store.values.create()  # of a trail from before there were any
    except StoreUnavailableError as error:
        logger.warning("The audit trail's tables could not be looked for: %s", error)


def _hold(wanted: Layout, trail: AuditTrail) -> None:
    global _held  # noqa: PLW0603 - see close_trail
    _held = (wanted, trail)


def make_trail(wanted: Layout, *, lifecycle: bool = True) -> AuditTrail:
    """A trail for this layout; nothing is opened or written yet. Raises ConfigurationError as ``get_trail`` does.

    Without ``lifecycle`` it does not record that it was started and stopped.
    """
    return AuditTrail(
        wanted.url,
        outbox=wanted.outboxes,
        queue=None if under_test() else setting("QUEUE"),
        redact=setting("REDACT"),
        erasable=setting("ERASABLE"),
        policy=AuditPolicy(reads=setting("READS"), skip=setting("SKIP"), rules=setting("RULES")),
        trusted_proxies=setting("TRUSTED_PROXIES"),
        proxy_header=setting("PROXY_HEADER"),
        source=setting("SOURCE"),
        durable=setting("DURABLE"),
        on_failure=setting("ON_FAILURE"),
        anchors=() if under_test() else setting("ANCHORS"),  # nothing of a test goes out
        archives=setting("ARCHIVES"),
        create=False,  # the migration does it
        lifecycle=lifecycle and not under_test(),
    )


def redaction_rules() -> Redactor:
    """What the settings say of fields, to be asked and not applied: so no key is made for it."""
    return Redactor(setting("REDACT"), hash_key=b"none", erasable=setting("ERASABLE"))


def remember_databases() -> None:
    """Called at the start: these are no test databases."""
    for alias, database in connections.settings.items():
        _real_names.setdefault(alias, str(database.get("NAME")))


def _database(alias: str) -> Database:
    """The database as it is now: a test runner changes its name in place, where its tests use the database.

    Where they do not, the real one is still named, and is not to be touched. On PostgreSQL tests have a trail in
    memory, because a connection of ours would see nothing of what a ``TestCase`` never commits, unless they ask.
    """
    database = database_of(alias)
    if not under_test():
        return database
    is_real = database.name == _real_names.get(alias)
    stays = database.vendor == SQLITE or connections.settings[alias].get("TEST", {}).get("AUDIT", False)
    return database if stays and not is_real else IN_MEMORY


@lru_cache(maxsize=16)
def _layout(databases: tuple[tuple[str, Database], ...], url: str | None) -> Layout:
    urls = {alias: database.url for alias, database in databases}
    if url is None:
        if DEFAULT_DB_ALIAS not in urls:
            raise ConfigurationError("The default database is not audited, so say where the trail is: AUDIT['URL'].")
        url = urls[DEFAULT_DB_ALIAS]
    elif (path := url.removeprefix("sqlite:///")) != url:
        url = Database(SQLITE, path).url
    if url == MEMORY:  # its outbox takes events from every database
        return Layout(url, (), None)
    here, places = place_of(url), {alias: place_of(its_url) for alias, its_url in urls.items()}
    home = next((alias for alias, place in places.items() if place == here), None)
    others = {places[alias]: its_url for alias, its_url in urls.items() if places[alias] != here}
    # memory: owns everything, so it comes last
    return Layout(url, tuple(sorted(others.values(), key=lambda its_url: (its_url == MEMORY, its_url))), home)
