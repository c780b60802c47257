"""Where an extra is not installed, one sentence says which."""

import subprocess
import sys
from pathlib import Path

import pytest

from audit_core.extras import needed_by

ROOT = Path(__file__).parent.parent
BLOCKED = """
import sys
for package, statement in {cases}:
    for loaded in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[loaded]
    sys.modules[package] = None
    try:
        exec(statement)
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print("nothing is missing for", statement)
    del sys.modules[package]
"""
OPEN = "import audit_core; audit_core.AuditTrail"
CASES = [
    ("starlette", "import audit_fastapi", "audit_fastapi", "fastapi"),
    ("anyio", "from audit_fastapi.middleware import AuditMiddleware", "audit_fastapi", "fastapi"),
    ("flask", "import audit_flask", "audit_flask", "flask"),
    ("django", "import audit_django", "audit_django", "django"),
    ("asgiref", "import audit_django", "audit_django", "django"),
    ("sqlalchemy", "import audit_core.orm.sqlalchemy", "SQLAlchemyAuditor", "sqlalchemy"),
    ("sqlalchemy", "from audit_core.orm.sqlalchemy.known import known_of", "SQLAlchemyAuditor", "sqlalchemy"),
    ("celery", "import audit_core.celery", "audit_core.celery", "celery"),
]
SETTINGS = [
    ("psycopg", f"{OPEN}('postgresql://host/x')", "PostgreSQL", "postgres"),
    ("boto3", f"{OPEN}('s3://bucket/x', outbox='memory:')", "S3", "s3"),
    (
        "rfc3161_client",
        f"{OPEN}('memory:', anchors=['tsa+https://host/?ca=x'])",
        "A time-stamp authority",
        "timestamps",
    ),
]


def test_the_extra_that_is_missing_is_named_in_one_sentence(tmp_path):
    program = BLOCKED.format(cases=[case[:2] for case in CASES + SETTINGS])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={"AUDIT_STATE_DIR": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    wanted = [
        f'{kind} {what} needs {package.replace("_", "-")}: pip install "audit-core[{extra}]".'
        for kind, cases in (("ModuleNotFoundError", CASES), ("ConfigurationError", SETTINGS))
        for package, _, what, extra in cases
    ]
    assert done.stdout.splitlines() == wanted


@pytest.mark.parametrize("words", [["check"], ["triggers", "check", "--url", "postgresql://host/x"]])
def test_a_command_that_needs_the_applications_classes_says_so_too(words):
    program = "import sys; sys.modules['sqlalchemy'] = None; from audit_core.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *words, "--auditor", "x:y"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert 'SQLAlchemyAuditor needs sqlalchemy: pip install "audit-core[sqlalchemy]".' in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_module_that_the_application_lacks_is_told_as_python_tells_it():
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module'"):  # noqa: SIM117
        with needed_by("audit_flask", "flask", "flask"):
            import no_such_module  # noqa: F401
