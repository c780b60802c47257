"""Settings for Django's own tests of requests: its usual ones, with our middleware around every handler, or without.

Their tests compare headers: the one that we add is left away.
"""

from django.core.handlers import base
from test_sqlite import *  # noqa: F403 - Django's, which lies beside its runtests.py

from tests.suites import outcomes

TEST_RUNNER = "tests.suites.django_runner.Runner"


class _Settings:
    """What Django's handlers read as their settings."""

    def __getattr__(self, name):
        return getattr(_settings, name)

    @property
    def MIDDLEWARE(self):
        return [f"{__name__}.audit", *_settings.MIDDLEWARE]


def audit(get_response):
    """The first line of every list of middleware."""
    from audit_core import AuditTrail
    from audit_core.requests.answer import Answer
    from audit_django import middleware
    from tests.suites.everything import Everything

    if "trail" not in _made:
        _made["trail"] = AuditTrail("memory:", lifecycle=False, policy=Everything())
        Answer.headers = lambda self, present: []
        middleware.apps = _Installed  # their tests install what they need, and nothing else
    return middleware.AuditMiddleware(get_response, trail=_made["trail"])


class _Installed:
    is_installed = staticmethod(lambda name: True)


audit.sync_capable = audit.async_capable = True
_settings, _made = base.settings, {}
if outcomes.CAPTURES:
    base.settings = _Settings()
