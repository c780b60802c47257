"""The own test suites of SQLAlchemy and Django, without capture and with it: which tests fail only with it, and why."""

import importlib.metadata
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.postgres.server import shared
from tests.suites import outcomes
from tests.suites.known import DJANGO, SQLALCHEMY

ROOT = Path(__file__).parents[2]
PYTEST = ("-m", "pytest", "-p", "tests.suites.sqlalchemy_plugin", "-p", "no:django", "-p", "no:cacheprovider")
OPTIONS = ("-q", "--maxfail=100000", "-o", "addopts=--tb short -p warnings -p logging --strict-markers")
RUNTESTS = ("runtests.py", "--settings", "tests.suites.django_settings", "--parallel", "1", "--noinput")
# What of Django's concerns its ORM, and the admin, which uses most of it.
DJANGO_TESTS = """
    admin_views admin_inlines aggregation annotations auth_tests backends basic bulk_create composite_pk
    contenttypes_tests custom_columns custom_managers custom_methods custom_pk datatypes dates datetimes db_functions
    defer defer_regress delete delete_regress distinct_on_fields empty expressions expressions_case expressions_window
    extra_regress field_defaults field_subclassing file_storage filtered_relation fixtures fixtures_model_package
    fixtures_regress force_insert_update foreign_object from_db_value generic_inline_admin generic_relations
    generic_relations_regress get_earliest_or_latest get_or_create known_related_objects lookup m2m_and_m2o
    m2m_intermediary m2m_multiple m2m_recursive m2m_regress m2m_signals m2m_through m2m_through_regress m2o_recursive
    managers_regress many_to_many many_to_one many_to_one_null migrations model_fields model_forms model_formsets
    model_formsets_regress model_inheritance model_inheritance_regress model_meta model_options model_regress
    multiple_database mutually_referential nested_foreign_keys null_fk null_queries one_to_one or_lookups
    order_with_respect_to ordering prefetch_related properties proxy_model_inheritance proxy_models queries
    queryset_pickle raw_query reserved_names reverse_lookup save_delete_hooks schema select_for_update select_related
    select_related_onetoone select_related_regress serializers sessions_tests signals sites_tests string_lookup
    swappable_models test_utils timezones transaction_hooks transactions unmanaged_models update update_only_fields
    validation xor_lookups
""".split()
# On a server that lacks ICU and the extensions. Its capture is another one: the statements answer with what they write.
POSTGRES_TESTS = """
    basic bulk_create composite_pk custom_managers custom_pk delete delete_regress expressions field_defaults fixtures
    force_insert_update foreign_object from_db_value generic_relations get_or_create lookup m2m_regress m2m_signals
    m2m_through m2m_through_regress many_to_many model_inheritance model_inheritance_regress one_to_one
    order_with_respect_to proxy_models queries save_delete_hooks select_for_update serializers signals
    transaction_hooks transactions update update_only_fields
""".split()


@dataclass(frozen=True)
class Suite:
    """Somebody else's tests: which of them run, from which folder of the source distribution, and how."""

    package: str
    folder: str
    command: tuple[str, ...]
    tests: list[str]
    known: dict[str, list[str]]  # parts of the names of the tests that differ, by the reason why
    database: str = "SQLite"


SUITES = (
    Suite("sqlalchemy", "", (*PYTEST, *OPTIONS), ["test/orm", "test/ext"], SQLALCHEMY),
    Suite("django", "tests", RUNTESTS, DJANGO_TESTS, DJANGO),
    Suite("django", "tests", RUNTESTS, POSTGRES_TESTS, DJANGO, "PostgreSQL"),
)


def play(state):
    """All of them, in the versions that are installed. False when a test fails with capture and nobody knows why."""
    results = [_play(suite, state) for suite in SUITES]
    return all(results)


def _play(suite, state):
    version = importlib.metadata.version(suite.package)
    source = unpack(suite.package, version, state)
    without, audited = (_run(suite, source, state, capture=capture) for capture in (False, True))
    ran, failed = len(without.passed) + len(without.failed), len(without.failed)
    print(f"{suite.package} {version} on {suite.database}: {ran:,} tests ran, {failed} failed without capture;")
    print(f"with it {audited.events:,} events were written, and these tests failed that had not:")
    unknown = compare(without, audited, suite.known)
    return not unknown


def compare(without, audited, known):
    """Print the differences by their reasons; the tests that have none are returned."""
    differ = {test: message for test, message in audited.failed.items() if test not in without.failed}
    did_not_run = (without.passed | without.failed.keys()) - audited.passed - audited.failed.keys()
    differ |= dict.fromkeys(did_not_run, "It did not run.")
    if not audited.events:
        differ["every test"] = "Capture wrote no event, so nothing was tried."
    for reason, names in known.items():
        explained = [test for test in differ if any(name in test for name in names)]
        print(f"  {len(explained):4} {reason}")
        for test in explained:
            del differ[test]
    for test, message in sorted(differ.items()):
        print(f"  unexplained: {test}\n{message}")
    print(f"  {len(differ):4} unexplained", flush=True)
    return differ


def unpack(package, version, state):
    """The source distribution of a package, from its registry: the tests are in no wheel."""
    wanted = f"{package}=={version}"
    pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", package, "-d", str(state), wanted)
    subprocess.run(pip, check=True)
    (archive,) = state.glob(f"{package}-{version}.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(state, filter="data")
    return state / f"{package}-{version}"


def _run(suite, source, state, *, capture):
    name = f"{suite.package}-{suite.database}-{'with' if capture else 'without'}"
    path = state / f"{name}.jsonl"
    environment = {
        "PYTHONPATH": str(ROOT),
        "PYTHONNOUSERSITE": "1",  # or SQLAlchemy's tests take its source and not what is installed
        "SUITE_OUTCOMES": str(path),
        "SUITE_CAPTURE": str(int(capture)),
    }
    if suite.database == "PostgreSQL":
        environment["SUITE_SERVER"] = os.environ.get("AUDIT_TEST_POSTGRES") or shared().url
    command = (sys.executable, *suite.command, *suite.tests)
    with (state / f"{name}.log").open("w", encoding="utf-8") as log:
        where = {"cwd": source / suite.folder, "env": os.environ | environment}
        subprocess.run(command, stdout=log, stderr=log, check=False, **where)
    return outcomes.read(path)
