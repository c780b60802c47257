"""Who acts, and how long: the context of a request, without a request."""

from hashlib import sha256

import pytest

from audit_core import AuditTrail, Redactor, add_details, set_actor, set_outcome
from audit_core.canonical import encode
from audit_core.context import Actor, AuditContext, current, end, enter


@pytest.fixture
def context():
    context = AuditContext()
    enter(context)
    yield context
    end(context)


def test_the_application_goes_before_the_framework_and_nobody_is_anonymous(context):
    assert context.current_actor() == Actor(None, "anonymous", None)
    context.find_actor = lambda: Actor("of-the-framework", "user")
    assert context.current_actor().id == "of-the-framework"
    set_actor(42, type="admin", on_behalf_of=7)
    assert context.current_actor() == Actor("42", "admin", "7")


def test_who_it_was_stays_known_after_the_request_and_the_request_is_let_go(context):
    context.find_actor = lambda: Actor("ada", "user")
    context.settle_actor()
    assert (context.actor, context.find_actor) == (Actor("ada", "user"), None)


def test_what_a_task_does_after_its_request_says_so(context):
    set_actor("ada")
    with AuditTrail("memory:") as trail:
        during = trail.record("a.b")
        with trail.actor("worker"):
            context.settle_actor()
            named = trail.record("a.b")
        after = trail.record("a.b", details={"n": 1})
    assert during.details == {}
    assert (named.actor_id, named.details) == ("worker", {"after_request": True})
    assert (after.actor_id, after.details) == ("ada", {"n": 1, "after_request": True})


def test_whom_the_application_named_stays_after_the_request(context):
    context.find_actor = lambda: Actor("of-the-framework", "user")
    set_actor("ada")
    context.settle_actor()
    assert context.actor.id == "ada"


def test_another_actor_is_not_in_the_tenant_of_the_one_before(context):
    set_actor("ada", tenant_id=7)
    assert context.tenant_id == "7"
    set_actor("bob")
    assert context.tenant_id is None


def test_naming_the_same_actor_again_keeps_the_tenant(context):
    set_actor("ada", tenant_id=7)
    set_actor("ada", type="admin")
    assert context.tenant_id == "7"


def test_a_block_with_another_actor_keeps_the_rest_of_the_request(context):
    context.request_id, context.ip_address = "r-1", "192.0.2.7"
    set_actor("ada", tenant_id="north")
    with AuditTrail("memory:") as trail:
        with trail.actor("import", type="service"):
            inside = trail.record("a.b")
        after = trail.record("a.b")
    assert (inside.actor_id, inside.actor_type, after.actor_id) == ("import", "service", "ada")
    for event in (inside, after):
        assert (event.request_id, event.ip_address, event.tenant_id) == ("r-1", "192.0.2.7", "north")


def test_a_block_that_breaks_off_restores_the_actor(context):
    set_actor("ada")
    with AuditTrail("memory:") as trail, pytest.raises(KeyError), trail.actor("import"):
        raise KeyError
    assert current().current_actor().id == "ada"


def test_an_actor_and_an_outcome_that_there_are_not_are_refused_at_once(context):
    with pytest.raises(ValueError, match="robot"):
        set_actor("ada", type="robot")
    with pytest.raises(ValueError, match="sucess"):
        set_outcome("sucess")
    with AuditTrail("memory:") as trail, pytest.raises(ValueError, match="robot"), trail.actor("ada", type="robot"):
        pass
    assert (context.actor, context.told.outcome) == (None, None)


@pytest.mark.parametrize("call", [lambda: set_outcome("denied"), lambda: add_details(ward=7), lambda: set_actor("ada")])
def test_outside_of_a_request_the_cure_is_named(call):
    with pytest.raises(LookupError, match=r"with trail\.actor"):
        call()


class TestComposing:
    def test_every_event_says_which_component_wrote_it(self):
        with AuditTrail("memory:", source="clinic") as trail:
            assert trail.record("a.b").source == "clinic"

    def test_a_rule_of_the_redactor_may_be_for_one_type_of_resource(self):
        with AuditTrail("memory:", redactor=Redactor(rules={"patient.name": "replace"})) as trail:
            of_patient = trail.record("a.b", resource=("patient", 1), details={"changes": {"name": "Ada"}})
            of_ward = trail.record("a.b", resource=("ward", 1), details={"changes": {"name": "North"}})
        assert "Ada" not in str(of_patient.details)
        assert "North" in str(of_ward.details)

    def test_a_secret_is_taken_out_before_anything_is_cut(self):
        """Cut first, and the hash of what was cut would be one of the secret, for trying."""
        details = {f"k{number}": "x" * 100 for number in range(400)}
        with AuditTrail("memory:") as trail:
            event = trail.record("a.b", details={**details, "password": "hunter2"})
        kept = encode({**details, "password": "[redacted]"})
        assert event.details["cut"]["sha256"] == sha256(kept).hexdigest()
