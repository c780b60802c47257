"""The events of many changes are those that each change would have by itself."""

import json

from hypothesis import given
from hypothesis import strategies as st

from audit_core.compose import compose
from audit_core.context import Actor, AuditContext, Told
from audit_core.orm.bulk import Summary
from audit_core.orm.changes import created, deleted, updated
from audit_core.redaction import Redactor
from audit_core.rows import to_json
from audit_core.telling import events_as_json
from audit_core.waiting import read_draft

REDACTOR = Redactor({"patient.diagnosis": "hash", "name": "mask"}, b"k" * 32)
CONTEXT = AuditContext(
    Actor('100 % "%s"', "user"),
    user_agent="a\\b\0%d\n",
    request_id="r\\u0000",
    tenant_id='"\\u0000"',
    within={"command": "100 %s", "changes": 1, "password": "x"},
)
NEVER_THE_SAME = ("event_id", "timestamp")

names = st.sampled_from(["name", "diagnosis", "token", "old", "100 %s", "\0", "new", "changes", "card"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.just("card 4111 1111 1111 1111")
    | st.just(4111111111111111) | st.just("z" * 70_000) | st.dates() | st.datetimes() | st.decimals(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(names, inside, max_size=3),
    max_leaves=6,
)  # fmt: skip
fields = st.dictionaries(names, values, max_size=4)
keys = st.lists(st.integers() | st.text(), min_size=1, max_size=2)
kinds = st.sampled_from(["patient", "access token", "100 %s", "o" * 300])
changes = (
    st.builds(created, kinds, keys, fields, names.map(lambda name: (name,)))
    | st.builds(deleted, kinds, keys, fields)
    | st.builds(updated, kinds, keys, fields, fields)
    | st.builds(Summary, st.just("update"), kinds, st.integers(0), st.text(), fields, fields)
)


def apart(text):
    """The event without what is never the same; what it had to be must be of its form."""
    assert json.loads(read_draft(text)[3]) == json.loads(text)["details"]  # the sealer takes it as it is
    return {name: value for name, value in json.loads(text).items() if name not in NEVER_THE_SAME}


@given(st.lists(changes, max_size=4), st.booleans(), st.sampled_from([{}, {"database": "100 % \0"}]))
def test_events_made_together_are_those_that_are_made_one_by_one(some, ended, more):
    some = [change for change in some if change]
    CONTEXT.told = Told(ended=ended)
    told = list(events_as_json(some, more, context=CONTEXT, source="app %s", redactor=REDACTOR))
    alone = [
        to_json(
            compose(
                one.action, one.resource(REDACTOR), "success", {**one.details, **more},
                context=CONTEXT, source="app %s", redactor=REDACTOR,
            )
        )
        for one in some
    ]  # fmt: skip
    assert list(map(apart, told)) == list(map(apart, alone))
    assert all(list(json.loads(text)) == sorted(json.loads(text)) and "\n" not in text for text in told)
