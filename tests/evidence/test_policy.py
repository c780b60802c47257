"""The page runs its own program and style, and nothing else: also where no browser is there to try it."""

import base64
import hashlib
import re
from pathlib import Path

import audit_core.evidence
from audit_core.evidence.opened import EVENTS

PAGE = (Path(audit_core.evidence.__file__).parent / "evidence.html").read_text(encoding="utf-8")


def test_the_policy_names_the_hash_of_the_program_and_of_the_style_as_they_are():
    for kind, policy in (("script", "script-src"), ("style", "style-src")):
        *_, text = re.findall(rf"<{kind}[^>]*>(.*?)</{kind}>", PAGE, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{policy} 'sha256-{digest}'" in PAGE


def test_the_page_draws_no_more_events_than_a_bundle_has():
    assert re.findall(r"\bEVENTS = (\d+)", PAGE) == [str(EVENTS)]
