"""Which models are audited, and what of their fields."""

import pytest
from django.db.models import F
from django.utils import timezone

from audit_core import Redactor
from audit_core.errors import ConfigurationError
from audit_django import get_trail
from audit_django.trail import audited_aliases, close_trail
from tests.django.prison.models import FineSketch, Inmate, Letter, Lifer, Newcomer, OwnSession, Sketch, Visitor

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def audit(settings):
    """Choose by these settings."""

    def choose(**options):
        settings.AUDIT = options

    return choose


def one_of_each():
    Inmate.objects.create(id=1)
    Lifer.objects.create(id=2)
    Letter.objects.create(id=1)
    Sketch.objects.create(id=1)
    FineSketch.objects.create(id=2)
    OwnSession.objects.create(session_key="k", expire_date=timezone.now())


def resources(recorded):
    return sorted(f"{event.resource_type}:{event.resource_id}" for event in recorded())


def of(recorded, action="create"):
    """The fields of the newest event of this action, new before old."""
    changes = recorded(action)[-1].details["changes"]
    return {name: change["old"] if change["new"] is None else change["new"] for name, change in changes.items()}


# --- Which models


def test_all_models_are_audited_but_those_that_say_no_and_what_django_keeps(recorded, audit):
    audit()
    one_of_each()
    assert resources(recorded) == ["inmate:1", "letter:1", "lifer:2"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"INCLUDE": ["prison.Inmate"]}, ["inmate:1", "lifer:2"]),
        ({"INCLUDE": ["prison.lifer"]}, ["lifer:2"]),
        ({"INCLUDE": ["prison.Numbered"]}, ["inmate:1", "lifer:2"]),
        ({"INCLUDE": ["clinic"]}, []),
        ({"INCLUDE": ["prison"]}, ["inmate:1", "letter:1", "lifer:2"]),
        ({"EXCLUDE": ["prison.Inmate"]}, ["letter:1"]),
        ({"EXCLUDE": ["prison.Letter"]}, ["inmate:1", "lifer:2"]),
        ({"EXCLUDE": ["prison"]}, []),
        ({"INCLUDE": ["prison.Lifer"], "EXCLUDE": ["prison.Inmate"]}, []),
        ({"CHOOSE": lambda model: model is not Letter}, ["inmate:1", "lifer:2"]),
        ({"CHOOSE": "tests.django.prison.models.is_no_letter"}, ["inmate:1", "lifer:2"]),
        ({"INCLUDE": ["prison.Sketch"]}, []),
        ({"INCLUDE": ["prison.OwnSession"]}, ["own_session:[redacted]"]),
        ({"INCLUDE": []}, []),
    ],
)
def test_include_exclude_and_a_function_choose_models_with_their_subclasses(recorded, audit, options, expected):
    audit(**options)
    one_of_each()
    found = resources(recorded)
    assert [one.partition(":hmac")[0] for one in found] == [one.partition(":[")[0] for one in expected]


NOTHING = "no installed app and no model."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"EXCLUDE": ["prison.Lifr"]},
            f"settings.AUDIT['EXCLUDE'] names 'prison.Lifr', which is {NOTHING} Did you mean 'prison.Lifer'?",
        ),
        (
            {"INCLUDE": ["clinik"]},
            f"settings.AUDIT['INCLUDE'] names 'clinik', which is {NOTHING} Did you mean 'clinic'?",
        ),
        (
            {"EXCLUDE": ["prison.Newcomer"]},
            "settings.AUDIT['EXCLUDE'] names 'prison.Newcomer', which is a proxy: name 'prison.Inmate'.",
        ),
        ({"CHOOSE": "prison.rule"}, "settings.AUDIT['CHOOSE'] is 'prison.rule': No module named 'prison'."),
        ({"CHOOSE": 3}, "settings.AUDIT['CHOOSE'] is a function that takes a model, or its path, not 3."),
    ],
)
@pytest.mark.parametrize("write", [Letter.objects.create, lambda: Letter.objects.update(text="x")])
def test_a_name_that_there_is_not_is_told_before_anything_is_written(recorded, audit, options, sentence, write):
    audit(**options)
    with pytest.raises(ConfigurationError) as error:
        write()
    assert str(error.value) == sentence
    assert not Letter.objects.exists()
    assert recorded() == []


@pytest.mark.parametrize(
    ("options", "meant"),
    [({"READ": ["patient"]}, "READS"), ({"redact": {}}, "REDACT"), ({"DATABASES": ["othr"]}, "other")],
)
def test_a_setting_or_a_database_that_is_misspelt_is_told_with_what_was_meant(audit, options, meant):
    audit(**options)
    with pytest.raises(ConfigurationError, match=rf" Did you mean '{meant}'\?$"):
        audited_aliases()
    audit()


def test_an_object_whose_parent_is_not_audited_has_the_fields_of_all_its_tables(recorded, audit):
    audit(INCLUDE=["prison.Lifer"])
    one = Lifer.objects.create(name="Ann", cell="7")
    Inmate.objects.create(name="Bea")
    assert of(recorded) == {"id": one.pk, "name": "Ann", "cell": "[redacted]"}
    one.name = "Amy"
    one.save(update_fields=["name"])
    Lifer.objects.update(name="Ada")
    Inmate.objects.filter(name="Bea").update(name="Bo")
    Inmate.objects.all().delete()
    assert [(event.action, event.resource_type, event.resource_id) for event in recorded()] == [
        (action, "lifer", str(one.pk)) for action in ("create", "update", "update", "delete")
    ]
    assert of(recorded, "delete") == {"id": one.pk, "name": "Ada", "cell": "[redacted]"}


def test_a_deletion_above_the_limit_tells_of_no_parent_that_is_not_audited(recorded, audit):
    audit(INCLUDE=["prison.Lifer"], BULK_LIMIT=1)
    for name in "abc":
        Lifer.objects.create(name=name)
    Lifer.objects.all().delete()
    assert [(event.resource_type, event.details["bulk"]["rows"]) for event in recorded("delete")] == [("lifer", 3)]


def test_a_cascade_above_the_limit_tells_of_no_model_that_is_not_audited(recorded, audit):
    audit(INCLUDE=["prison.Inmate"], BULK_LIMIT=1)
    inmate = Inmate.objects.create()
    Letter.objects.bulk_create([Letter(inmate=inmate) for _ in range(3)])
    inmate.delete()
    assert [(event.action, event.resource_type) for event in recorded()] == [("create", "inmate"), ("delete", "inmate")]


def test_a_row_of_a_parents_table_is_the_parents_where_the_child_is_not_audited(recorded, audit):
    audit(EXCLUDE=["prison.Lifer"])
    Lifer.objects.create(id=5, name="Ann", cell="7")
    assert [(event.resource_type, event.resource_id) for event in recorded()] == [("inmate", "5")]
    assert set(of(recorded)) == {"id", "name"}


def test_links_are_audited_where_the_model_is_that_declares_them(recorded, audit):
    audit(INCLUDE=["prison.Visitor", "clinic.Doctor"])
    Inmate.objects.create(id=1).visitors.add(Visitor.objects.create(id=7))
    assert resources(recorded) == ["visitor:7"]


# --- What of their fields


@pytest.fixture
def rules(audit):
    """With these rules in the settings."""

    def give(**rules):
        audit(REDACT={name.replace("__", "."): rule for name, rule in rules.items()})
        close_trail()
        get_trail()

    yield give
    close_trail()


VALUES = {"passport": "C01X00T478990", "ailment": "flu", "scan": "...", "ssn": "1", "name": "Ann"}


@pytest.mark.parametrize("create", [Inmate.objects.create, lambda **v: Inmate.objects.bulk_create([Inmate(**v)])])
def test_a_field_is_masked_hashed_replaced_kept_or_left_out_as_its_class_says(recorded, create):
    create(id=1, **VALUES)
    assert of(recorded) == {
        "id": 1,
        "name": "[redacted]",
        "ssn": "1",
        "passport": "••••8990",
        "ailment": get_trail().redactor.keyed_hash("flu"),
    }, "the name because of the proxy, which is what it stands for"


def test_what_a_class_says_holds_for_its_subclasses_and_proxies(recorded):
    Lifer.objects.create(id=1, cell="7", **VALUES)
    assert of(recorded)["cell"] == "[redacted]"
    assert of(recorded)["passport"] == "••••8990"
    Newcomer.objects.create(id=2, **VALUES)
    assert of(recorded)["passport"] == "••••8990"
    assert "scan" not in of(recorded)


@pytest.mark.parametrize("name", ["inmate__ssn", "prison__Inmate__ssn", "lifer__ssn"])
def test_a_rule_of_the_settings_holds_for_subclasses_and_before_what_the_class_says(recorded, rules, name):
    rules(**{name: "replace"})
    Lifer.objects.create(id=1, **VALUES)
    assert of(recorded)["ssn"] == "[redacted]"


def test_an_update_of_nothing_but_excluded_fields_and_links_leaves_no_event(recorded):
    one, other = Inmate.objects.create(id=1, seen=1), Visitor.objects.create(id=1)
    before = len(recorded())
    one.scan = "x"
    one.save()
    Inmate.objects.update(seen=F("seen") + 1)
    Inmate.objects.bulk_update([one], ["scan"])
    one.visitors.add(other)
    one.visitors.clear()
    assert len(recorded()) == before


def test_the_criteria_of_a_summary_follow_the_rules_of_every_model_that_they_name(recorded, audit):
    audit(BULK_LIMIT=0)
    inmate = Inmate.objects.create(id=1, **VALUES)
    Letter.objects.create(inmate=inmate)
    Letter.objects.filter(inmate__ailment="flu", inmate__passport="C01X00T478990").update(text="gone")
    Letter.objects.filter(inmate__in=Inmate.objects.filter(ailment="flu")).update(text="again")
    Inmate.objects.filter(ailment="flu").update(scan="x", name="n")
    first, second, third = (event.details["bulk"] for event in recorded("update"))
    assert first["parameters"]["inmate.passport"] == "••••8990"
    for bulk in (first, second):
        assert bulk["parameters"]["inmate.ailment"].startswith("hmac-sha256:")
    assert third["values"] == {"name": "[redacted]"}
    assert third["parameters"]["ailment"].startswith("hmac-sha256:")
    assert "flu" not in str((first, second, third))


def test_an_event_that_no_orm_tells_follows_the_rules_of_the_class_too(recorded):
    get_trail().record("lifer.view", resource=("lifer", 1), details={"cell": "7", "scan": "s", "seen": 3})
    assert recorded()[-1].details == {"cell": "[redacted]"}


def test_without_a_class_of_its_name_a_resource_has_no_more_rules_than_before():
    assert Redactor({"inmate.name": "mask"}).details({"name": "n", "cell": "7"}, "lifers") == {"name": "n", "cell": "7"}
