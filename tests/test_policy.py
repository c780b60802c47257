"""What is audited, and what it is called: decided in the core, so tested without a framework."""

import pytest

from audit_core import AuditPolicy, AuditRule, audited
from audit_core.compose import split_resource
from audit_core.errors import ConfigurationError
from audit_core.policy import Route, outcome_of, outcome_of_code, resource_name


def named(template, policy=None, endpoint=None, method="POST", **parameters):
    return (policy or AuditPolicy()).name(method, Route(template, parameters, endpoint))


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("/patients/{patient_id}", "patient"),
        ("/patients/{patient_id}/notes", "patient"),
        ("/wards/{ward_id}/patients/{patient_id}", "patient"),
        ("/{patient_id}", "patient"),
        ("/files/{owner_id}/{file_id}", "file"),
        ("/api/invoice-lines/{id}", "invoice_line"),
        ("/InvoiceLines/{id}", "invoice_line"),
        ("/categories/{id}", "category"),
        ("/addresses/{id}", "address"),
        ("/boxes/{id}", "box"),
        ("/branches/{id}", "branch"),
        ("/dishes/{id}", "dish"),
        ("/access/{id}", "access"),
        ("/status/{id}", "status"),
        ("/analysis/{id}", "analysis"),
        ("/staff/{id}", "staff"),
    ],
)
def test_the_last_parameter_names_the_resource(template, kind):
    assert named(template, id="7", patient_id="7", file_id="7") == (f"POST {template}", kind, "7")


def test_a_route_without_parameters_is_about_its_last_word():
    assert named("/api/patients") == ("POST /api/patients", "patient", None)
    assert named("/") == ("POST /", None, None)
    assert AuditPolicy().name("POST", None) == ("POST (unrouted)", None, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("InvoiceLine", "invoice_line"), ("HTTPRequest", "http_request"), ("Room2Bed", "room2_bed"), ("patient",) * 2],
)
def test_a_class_has_one_name(name, expected):
    assert resource_name(name) == expected


def test_the_decorator_names_action_and_resource_and_what_it_cannot_fill_is_left_out():
    @audited("chart.read", resource="chart:{patient_id}")
    def chart(): ...

    assert named("/x/{patient_id}", endpoint=chart, patient_id=7) == ("chart.read", "chart", "7")
    assert named("/x/{other}", endpoint=chart, other=7) == ("chart.read", "chart", None)


def test_a_parameter_that_the_route_has_not_is_told_once_for_each_route(caplog):
    @audited("chart.read", resource="chart:{number}")
    def chart(): ...

    for template in ("/told/{patient_id}", "/told/{patient_id}", "/told/too/{patient_id}"):
        named(template, endpoint=chart, patient_id=7)
    first, second = (record.getMessage() for record in caplog.records)
    assert "'chart:{number}') names a parameter that the route /told/{patient_id} has not" in first
    assert "it has {patient_id}" in first
    assert "/told/too/{patient_id}" in second


def test_a_rule_whose_parameters_are_there_is_not_told_of(caplog):
    @audited("chart.read", resource="chart:{patient_id}")
    def chart(): ...

    named("/quiet/{patient_id}", endpoint=chart, patient_id=None)
    assert not caplog.records


def test_a_head_request_has_the_rule_of_the_get_that_answers_it():
    class View:
        @audited("chart.read")
        def get(self): ...

        def post(self): ...

    route = Route("/charts/{id}", {"id": 7}, View)
    policy = AuditPolicy()
    assert policy.name("HEAD", route)[0] == policy.name("GET", route)[0] == "chart.read"
    assert policy.audits("HEAD", "/charts/7", route, "success")
    assert policy.name("POST", route)[0] == "POST /charts/{id}"


@pytest.mark.parametrize(
    ("method", "path", "outcome", "audited"),
    [
        ("POST", "/x", "success", True),
        ("DELETE", "/x", "failure", True),
        ("GET", "/x", "success", False),
        ("GET", "/x", "denied", True),
        ("OPTIONS", "/x", "denied", True),
        ("GET", "/patients/7", "success", True),
        ("HEAD", "/patients/7", "success", True),
        ("OPTIONS", "/patients/7", "success", False),
        ("TRACE", "/patients/7", "success", False),
        ("GET", "/reports/day", "failure", True),
        ("POST", "/health", "denied", False),
        ("POST", "/static/a/b", "success", False),
    ],
)
def test_which_requests_leave_an_event(method, path, outcome, audited):
    policy = AuditPolicy(reads=["patient", "/reports/*"], skip=["/health", "/static/*"])
    template = "/patients/{id}" if path.startswith("/patients") else path
    assert policy.audits(method, path, Route(template, {"id": 7}), outcome) is audited


@pytest.mark.parametrize("setting", ["reads", "skip"])
def test_one_text_in_the_place_of_a_list_names_the_cure(setting):
    with pytest.raises(ConfigurationError, match=r"\['patient'\]"):
        AuditPolicy(**{setting: "patient"})


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "success"), (399, "success"), (400, "failure"), (401, "denied"), (402, "failure"), (403, "denied"),
     (404, "failure"), (500, "failure")],
)  # fmt: skip
def test_a_status_is_an_outcome(status, outcome):
    assert outcome_of(status) == outcome


@pytest.mark.parametrize(
    ("code", "here", "there"),
    [
        (1000, "success", "success"),
        (1006, "success", "success"),
        (4000, "success", "success"),
        (1008, "denied", "success"),
        (3000, "denied", "success"),
        (3003, "denied", "success"),
        *((code, "failure", "failure") for code in (1002, 1003, 1007, 1009, 1010, 1011, 1013, 1014)),
    ],
)
def test_only_who_serves_a_websocket_can_deny_something_with_its_code(code, here, there):
    assert (outcome_of_code(code, said_here=True), outcome_of_code(code, said_here=False)) == (here, there)


@pytest.mark.parametrize(
    ("resource", "split"),
    [
        (None, (None, None)),
        ("note", ("note", None)),
        ("note:", ("note", None)),
        ("note:7:b", ("note", "7:b")),
        (("note", 7), ("note", 7)),
    ],
)
def test_a_resource_is_a_type_and_an_id_however_it_is_written(resource, split):
    assert split_resource(resource) == split


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "QUERY", "MKCOL", "FOO", "get", ""])
def test_every_method_that_is_not_safe_leaves_an_event_known_or_not(method):
    assert AuditPolicy().audits(method, "/transfer", None, "success")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_safe_method_leaves_none_unless_it_is_asked_for_or_refused(method):
    assert not AuditPolicy().audits(method, "/patients", None, "success")
    assert AuditPolicy().audits(method, "/patients", None, "denied")


class TestARule:
    RULES = AuditPolicy(
        rules=[
            AuditRule("/exports/{name}", action="export.read", resource="export:{name}", methods=["GET"]),
            AuditRule("/admin/*", action="admin.work"),
            AuditRule("/admin/login", action="admin.login"),
        ]
    )

    def test_names_the_action_and_the_resource_of_a_route_whose_code_is_not_yours(self):
        assert named("/exports/{name}", self.RULES, method="GET", name="all") == ("export.read", "export", "all")
        assert named("/exports/{name}", self.RULES, method="HEAD", name="all") == ("export.read", "export", "all")
        assert named("/exports/{name}", self.RULES, name="all") == ("POST /exports/{name}", "export", "all")

    def test_makes_a_read_leave_an_event_as_the_decorator_does(self):
        def audits(method, template):
            return self.RULES.audits(method, template, Route(template), "success")

        assert audits("GET", "/exports/{name}")
        assert audits("GET", "/admin/users")
        assert not audits("GET", "/patients")
        assert not audits("OPTIONS", "/admin/users")

    def test_of_several_the_first_that_matches_counts_and_a_marked_function_before_all(self):
        @audited("user.import")
        def marked(): ...

        assert named("/admin/login", self.RULES)[0] == "admin.work"
        assert named("/admin/login", self.RULES, endpoint=marked)[0] == "user.import"

    def test_that_can_match_nothing_is_refused_with_the_cure(self):
        with pytest.raises(ConfigurationError, match="begins with a slash"):
            AuditRule("exports/{name}")
        with pytest.raises(ConfigurationError, match="is no AuditRule"):
            AuditPolicy(rules=["/exports"])
