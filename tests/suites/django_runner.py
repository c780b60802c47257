"""The runner of Django's own tests, which notes each outcome."""

import os
import unittest

from django.test.runner import DiscoverRunner

from tests.suites import outcomes


class Result(unittest.TextTestResult):
    """A test that has parts fails when one of them does. What is expected to fail is as good as skipped."""

    def addSuccess(self, test):
        super().addSuccess(test)
        outcomes.note(test.id(), "passed")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        outcomes.note(test.id(), "failed", self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        outcomes.note(test.id(), "failed", self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            outcomes.note(test.id(), "failed", self._exc_info_to_string(err, test))

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        outcomes.note(test.id(), "failed", "It should have failed.")


class Runner(DiscoverRunner):
    """Django's, with that result."""

    def get_resultclass(self):
        return Result

    def run_suite(self, suite, **kwargs):
        outcomes.count_events(os.environ.get("SUITE_COUNTS", "_carry"))
        result = super().run_suite(suite, **kwargs)
        outcomes.note_events()
        return result
