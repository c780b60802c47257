import subprocess
import sys


def test_synchronous_sessions_need_no_greenlet():
    code = (
        "import sys; sys.modules['greenlet'] = None\n"
        "from sqlalchemy.orm import sessionmaker\n"
        "from audit_core import AuditTrail\n"
        "from audit_core.orm.sqlalchemy import SQLAlchemyAuditor\n"
        "SQLAlchemyAuditor(AuditTrail('memory:')).attach(sessionmaker())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
