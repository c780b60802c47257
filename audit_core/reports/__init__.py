"""What an auditor asks of the trail, and how the answer is rendered."""

from audit_core.reports.page import write_page
from audit_core.reports.render import write_csv, write_json
from audit_core.reports.report import Coverage, Report, Statement
from audit_core.reports.reporter import AuditReporter
from audit_core.reports.rows import EventRow, FailureRow, SubjectRow
from audit_core.reports.table import write_table

__all__ = [
    "AuditReporter",
    "Coverage",
    "EventRow",
    "FailureRow",
    "Report",
    "Statement",
    "SubjectRow",
    "write_csv",
    "write_json",
    "write_page",
    "write_table",
]
