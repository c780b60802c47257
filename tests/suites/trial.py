"""Other people's test suites, without us and with us: which tests fail only with us, and why.

SQLAlchemy's and Django's with capture of their ORMs; Starlette's, FastAPI's, Flask's and Django's with an audit around
each application.
"""

import importlib.metadata
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.postgres.server import shared
from tests.suites import outcomes
from tests.suites.known import DJANGO, DJANGO_REQUESTS, FASTAPI, FLASK, SQLALCHEMY, STARLETTE

ROOT = Path(__file__).parents[2]
PYTEST = ("-m", "pytest", "-q", "-p", "no:django", "-p", "no:cacheprovider")
AUDITED = (*PYTEST, "-p", "request_plugin", "-o", "timeout=120")
OPTIONS = (
    "-p",
    "tests.suites.sqlalchemy_plugin",
    "--maxfail=100000",
    "-o",
    "addopts=--tb short -p warnings -p logging --strict-markers",
)
RUNTESTS = ("runtests.py", "--parallel", "1", "--noinput", "--settings")
CAPTURED, HANDLED = (*RUNTESTS, "tests.suites.django_settings"), (*RUNTESTS, "tests.suites.django_requests")
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
# What has a handler, a middleware or a test client in it, but for the admin.
REQUEST_TESTS = """
    asgi async auth_tests builtin_server cache conditional_processing csrf_tests decorators file_uploads flatpages_tests
    generic_views handlers httpwrappers logging_tests messages_tests middleware middleware_exceptions redirects_tests
    requests_tests responses servers sessions_tests shortcuts signed_cookies_tests sitemaps_tests staticfiles_tests
    syndication_tests test_client test_client_regress urlpatterns urlpatterns_reverse view_tests wsgi
""".split()
# Of its tutorials, which are many and alike, those that have to do with how a request is answered.
TUTORIALS = [
    f"tests/test_tutorial/test_{name}" for name in "background_tasks dependencies middleware websockets".split()
]
FASTAPI_TESTS = [
    "tests", "--ignore=tests/test_tutorial", "--ignore=tests/benchmarks", "--ignore=tests/memory_benchmarks",
    "--continue-on-collection-errors", *TUTORIALS,
]  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """Somebody else's tests: which of them run, from which folder of the source distribution, and how."""

    package: str
    folder: str
    command: tuple[str, ...]
    tests: list[str]
    known: dict[str, list[str]]  # parts of the names of the tests that differ, by the reason why
    what: str
    environment: Mapping[str, str] = field(default_factory=dict)


ON_SERVER = "capture on PostgreSQL"
SUITES = (
    Suite("sqlalchemy", "", (*PYTEST, *OPTIONS), ["test/orm", "test/ext"], SQLALCHEMY, "capture"),
    Suite("django", "tests", CAPTURED, DJANGO_TESTS, DJANGO, "capture"),
    Suite("django", "tests", CAPTURED, POSTGRES_TESTS, DJANGO, ON_SERVER),
    Suite("starlette", "", AUDITED, ["tests"], STARLETTE, "requests"),
    Suite("fastapi", "", AUDITED, FASTAPI_TESTS, FASTAPI, "requests"),
    Suite("flask", "", AUDITED, ["tests"], FLASK, "requests"),
    Suite("django", "tests", HANDLED, REQUEST_TESTS, DJANGO_REQUESTS, "requests", {"SUITE_COUNTS": "submit"}),
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
    print(f"{suite.package} {version}, {suite.what}: {ran:,} tests ran, {failed} failed without us;")
    print(f"with us {audited.events:,} events were written, and these tests failed that had not:")
    unknown = compare(without, audited, suite.known)
    return not unknown


def compare(without, audited, known):
    """Print the differences by their reasons; the tests that have none are returned."""
    differ = {test: message for test, message in audited.failed.items() if test not in without.failed}
    did_not_run = (without.passed | without.failed.keys()) - audited.passed - audited.failed.keys()
    differ |= dict.fromkeys(did_not_run, "It did not run.")
    if not audited.events:
        differ["every test"] = "There was no event, so nothing was tried."
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
    name = f"{suite.package}-{suite.what}-{'with' if capture else 'without'}"
    path = state / f"{name}.jsonl"
    environment = {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent))),
        "PYTHONNOUSERSITE": "1",  # or SQLAlchemy's tests take its source and not what is installed
        "SUITE_OUTCOMES": str(path),
        "SUITE_CAPTURE": str(int(capture)),
        **suite.environment,
    }
    if suite.what == ON_SERVER:
        environment["SUITE_SERVER"] = os.environ.get("AUDIT_TEST_POSTGRES") or shared().url
    command = (sys.executable, *suite.command, *suite.tests)
    with (state / f"{name}.log").open("w", encoding="utf-8") as log:
        where = {"cwd": source / suite.folder, "env": os.environ | environment}
        subprocess.run(command, stdout=log, stderr=log, check=False, **where)
    return outcomes.read(path)
