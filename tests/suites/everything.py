"""The policy under which each request leaves an event, so that they can be counted."""

from audit_core import AuditPolicy


class Everything(AuditPolicy):
    def audits(self, *request):
        super().audits(*request)  # which must survive what it is asked about
        return True
