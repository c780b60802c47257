"""Other audit libraries, each set up as its own documentation says, in an environment of the benchmarks' own.

They are installed from PyPI at the versions named here, beside what this interpreter has.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

# by variant, which is also the name of its database
REQUEST_PEERS = {
    "fastapi": {
        "auditlog_fastapi": "auditlog-fastapi==0.3.3",
        "bh_waiting": "bh-fastapi-audit==1.1.1",
        "bh_queued": "bh-fastapi-audit==1.1.1",
        "fastapi_audit_log": "fastapi-audit-log==1.4.0",
    },
    "flask": {},
    "django": {"easy_audit": "django-easy-audit==1.3.9"},
}
EVENTS = {  # where each writes what it tells of requests
    "auditlog_fastapi": "audit_logs",
    "bh_waiting": "bh_audit_events",
    "bh_queued": "bh_audit_events",
    "fastapi_audit_log": "fastapi_audit_logs",
    "easy_audit": "easyaudit_requestevent",
}
_UNAUDITED = "/read"


def python_with(*requirements: str) -> str:
    """An interpreter with these packages beside those of this one; made when it is first asked for."""
    wanted = sorted(set(requirements))
    name = hashlib.sha256("\n".join([sys.executable, *wanted]).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "audit-core-benchmarks" / name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        beside = folder / "lib" / version / "site-packages" / "beside.pth"
        beside.write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *wanted], check=True)
        (folder / "complete").touch()
    return str(python)


def captures_rows(variant: str) -> bool:
    """Whether this peer of a web framework also tells of rows."""
    return variant == "easy_audit"


def add_to_fastapi(variant: str, app: Any, url: str) -> None:
    """Audit every request but those of one path."""
    {"auditlog_fastapi": _auditlog, "fastapi_audit_log": _audit_log}.get(variant, _bh)(variant, app, url)


def _auditlog(_: str, app: Any, url: str) -> None:
    from auditlog_fastapi import AuditConfig, AuditMiddleware, create_audit_lifespan

    if url.startswith("sqlite"):
        config = AuditConfig(orm="sqlalchemy", dsn=url.replace("sqlite:", "sqlite+aiosqlite:"))
    else:
        config = AuditConfig(orm="asyncpg", dsn=url)
    app.router.lifespan_context = create_audit_lifespan(config)
    app.add_middleware(AuditMiddleware, skip_paths=[_UNAUDITED])


def _bh(variant: str, app: Any, url: str) -> None:
    from bh_fastapi_audit import AuditConfig, AuditMiddleware
    from bh_fastapi_audit.sinks.sqlalchemy import SQLAlchemySink

    mode: Any = "queue" if variant == "bh_queued" else "sync"
    config = AuditConfig(service_name="clinic", emit_mode=mode, excluded_paths=frozenset({_UNAUDITED}))
    app.add_middleware(AuditMiddleware, sink=SQLAlchemySink(sqlalchemy_url(url)), config=config)


def _audit_log(_: str, app: Any, url: str) -> None:
    from fastapi_audit_log import AuditLogger

    AuditLogger(app, db_url=sqlalchemy_url(url), exclude_paths=[_UNAUDITED])


def sqlalchemy_url(url: str) -> str:
    """The URL with the driver that audit-core uses."""
    return url.replace("postgresql:", "postgresql+psycopg:")


def settings_of_easy_audit() -> dict[str, Any]:
    """On top of what the application sets."""
    return {
        "INSTALLED_APPS": [
            "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "easyaudit",
        ],
        "MIDDLEWARE": ["easyaudit.middleware.easyaudit.EasyAuditMiddleware"],
        "DJANGO_EASY_AUDIT_UNREGISTERED_URLS_EXTRA": [f"^{_UNAUDITED}"],
        "DJANGO_EASY_AUDIT_REGISTERED_CLASSES": ["clinic.Patient"],
    }  # fmt: skip
