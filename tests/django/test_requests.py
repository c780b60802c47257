"""Requests through Django's own handlers: its users, sessions, routes and exceptions."""

import json

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from audit_core.errors import ConfigurationError
from audit_django import get_trail
from audit_django.middleware import AuditMiddleware
from audit_django.routing import template_of
from tests.django.clinic.models import Patient
from tests.django.loops import run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client():
    return Client(raise_request_exception=False)


@pytest.fixture
def ada(db):
    return User.objects.create_user("ada", password="engine")


def log_in(client, password="engine"):
    return client.post("/login/", json.dumps({"username": "ada", "password": password}), "application/json")


def request_events(recorded):
    return [event for event in recorded() if "method" in event.details]


@pytest.mark.parametrize(
    ("route", "template"),
    [
        ("patients/<int:patient_id>/", "/patients/{patient_id}/"),
        ("patients/<patient_id>/notes", "/patients/{patient_id}/notes"),
        (r"^patients/(?P<patient_id>[0-9]+)/$", "/patients/{patient_id}/"),
        (r"old/^visits/(?P<visit_id>[^/.]+)/$", "/old/visits/{visit_id}/"),
        (r"^unnamed/([0-9]+)/$", "/unnamed/{var}/"),
        (r"^(?:en|de)/x\.json$", "/x.json"),
        ("", "/"),
    ],
)
def test_the_template_of_a_route(route, template):
    assert template_of(route) == template


def test_a_request_and_its_change_share_a_request_id_which_the_client_gets(recorded, client):
    response = client.post("/patients/?name=Grace&token=hunter2")
    change, request = recorded()
    assert (change.action, request.action) == ("create", "POST /patients/")
    assert change.request_id == request.request_id == response["X-Request-ID"]
    assert "hunter2" not in repr(request)


@pytest.mark.parametrize("path", ["/old/visits/7/", "/unnamed/7/"])
def test_regular_expressions_name_a_resource_too(recorded, client, path):
    client.post(path)
    (event,) = recorded()
    assert event.resource_id == "7"


def test_class_based_views_are_marked_on_the_method_or_the_class(recorded, client):
    client.get("/charts/5/")
    client.post("/charts/5/")
    client.get("/statistics/")
    client.get("/indifferent/")
    assert [(e.action, e.resource_type, e.resource_id) for e in recorded()] == [
        ("chart.read", "chart", "5"),
        ("POST /charts/{pk}/", "chart", "5"),
        ("statistics.read", "statistic", None),
    ]


def test_a_view_that_raises_is_one_event_and_its_earlier_commit_stays(recorded, client):
    assert client.post("/boom/").status_code == 500
    change, request = recorded()
    assert change.action == "create"
    assert (request.outcome, request.details["status"], request.details["exception"]) == ("failure", 500, "ValueError")
    assert "hunter2" not in repr(request)


@pytest.mark.parametrize("client", [Client(), AsyncClient()], ids=["wsgi", "asgi"])
def test_a_view_in_which_the_process_is_told_to_end_is_named_by_its_route(recorded, client):
    with pytest.raises(SystemExit):
        run(client.put("/leave/7/"))
    get_trail().flush()  # an event loop that is left waits for nothing
    (request,) = request_events(recorded)
    assert (request.action, request.resource_type, request.resource_id) == ("PUT /leave/{patient_id}/", "leave", "7")
    assert (request.outcome, request.details["exception"]) == ("failure", "SystemExit")


@pytest.mark.parametrize("path", ["/aboom/", "/boom/"])
def test_under_asgi_too(recorded, path):
    assert run(AsyncClient(raise_request_exception=False).post(path)).status_code == 500
    request = recorded()[-1]
    assert (request.details["status"], request.details["exception"]) == (500, "ValueError")


def test_a_rolled_back_change_leaves_the_request_alone(recorded, client):
    client.post("/rolled-back/")
    assert [(event.action, event.outcome) for event in recorded()] == [("POST /rolled-back/", "failure")]


# -- who


def test_login_logout_and_failed_login_are_events_with_their_actor(recorded, client, ada):
    log_in(client, "wrong")
    log_in(client)
    client.post("/logout/")
    told = [(e.action, e.outcome, e.actor_id, e.resource_id) for e in recorded() if e.action.startswith("user.")]
    assert told == [
        ("user.login_failed", "denied", None, None),
        ("user.login", "success", str(ada.pk), str(ada.pk)),
        ("user.logout", "success", str(ada.pk), str(ada.pk)),
    ]
    requests = {(e.action, e.outcome): e for e in request_events(recorded)}
    assert requests["POST /login/", "denied"].actor_type == "anonymous"
    assert requests["POST /login/", "success"].actor_id == str(ada.pk)
    assert requests["POST /logout/", "success"].actor_id == str(ada.pk)
    assert "engine" not in repr(recorded())
    assert "wrong" not in repr(recorded())
    (failed,) = recorded("user.login_failed")
    assert failed.details == {"username": "ada"}


def test_a_logout_of_nobody_is_no_logout(recorded, client):
    client.post("/logout/")
    assert recorded("user.logout") == []


def test_an_actor_is_the_number_of_a_user_and_the_trail_itself_says_whose_that_is(recorded, client, ada):
    client.force_login(ada)
    client.get("/whoami/")
    ada.username = "augusta"
    ada.save()
    client.delete("/whoami/")
    (request,) = request_events(recorded)
    assert (request.actor_id, request.actor_type) == (str(ada.pk), "user")
    names = [
        event.details["changes"]["username"]
        for event in get_trail().events(resource=("user", request.actor_id), newest_first=False)
        if "username" in event.details.get("changes", {})
    ]
    assert names == [{"old": None, "new": "ada"}, {"old": "ada", "new": "augusta"}]


def test_a_wrong_password_in_the_admin_is_denied_though_its_form_is_shown_again_with_200(recorded, client):
    User.objects.create_superuser("root", password="engine")
    form = {"username": "root", "password": "wrong", "next": "/admin/"}
    assert client.post("/admin/login/", form).status_code == 200
    assert client.post("/admin/login/", form | {"password": "engine"}).status_code == 302
    told = [(e.details["status"], e.outcome) for e in request_events(recorded)]
    assert told == [(200, "denied"), (302, "success")]


def test_who_gets_in_at_the_second_try_of_one_request_was_not_denied(recorded, client, ada):
    log_in(client, ["by mail", "engine"])
    (request,) = request_events(recorded)
    assert (request.outcome, len(recorded("user.login_failed"))) == ("success", 1)


def test_credentials_are_not_looked_at_but_for_the_name(recorded, rf):
    class Tenant:
        def __str__(self):
            raise RuntimeError("a query that must not be run here")

    assert authenticate(rf.post("/"), username="ada", password="wrong", tenant=Tenant()) is None
    (failed,) = recorded("user.login_failed")
    assert failed.details == {"username": "ada"}


@pytest.mark.parametrize("known_by", ["set_actor", "user"])
def test_whom_a_failed_try_did_not_keep_out_was_not_denied(recorded, client, ada, known_by):
    """By a token of his own, or a header: nobody calls login(), and nobody tells that it succeeded."""
    assert client.post(f"/exchange/?by={known_by}&password=wrong&token=good").status_code == 200
    (request,) = request_events(recorded)
    assert (request.outcome, request.actor_id) == ("success", str(ada.pk))


@pytest.mark.parametrize(
    ("form", "outcome"),
    [
        ({"username": "ada", "password": "wrong"}, "denied"),
        ({"username": "Ada", "password": "engine"}, "denied"),
        ({"username": "ada", "password": "engine"}, "success"),
    ],
)
def test_a_view_that_names_the_account_that_was_tried_lets_nobody_in(recorded, client, ada, form, outcome):
    assert client.post("/login-by-name/", json.dumps(form), "application/json").status_code == 200
    (request,) = request_events(recorded)
    assert (request.outcome, request.actor_id) == (outcome, "ada")


def test_whom_a_failed_try_met_logged_in_is_denied_all_the_same(recorded, client, ada):
    client.force_login(ada)
    assert client.post("/exchange/?password=wrong").status_code == 200
    (request,) = request_events(recorded)
    assert (request.outcome, request.actor_id) == ("denied", str(ada.pk))


def test_what_a_view_says_of_a_failed_login_goes_first(recorded, client, ada):
    client.post("/login/?outcome=failure", json.dumps({"username": "ada", "password": "wrong"}), "application/json")
    (request,) = request_events(recorded)
    assert request.outcome == "failure"


def test_a_login_outside_of_requests_names_the_user(recorded, ada):
    client = Client()
    client.force_login(ada)
    (event,) = recorded("user.login")
    assert (event.actor_id, event.resource_id) == (str(ada.pk), str(ada.pk))


@pytest.mark.parametrize("path", ["/whoami/", "/awhoami/"])
def test_the_user_that_a_view_looked_at_is_the_actor(recorded, ada, path):
    client = Client()
    client.force_login(ada)
    client.post(path)
    event = request_events(recorded)[-1]
    assert (event.actor_id, event.actor_type) == (str(ada.pk), "user")


def test_a_request_that_never_looks_at_its_user_costs_no_query_and_does_not_vary(
    recorded, client, ada, django_assert_num_queries
):
    client.force_login(ada)
    with django_assert_num_queries(0):
        response = client.post("/indifferent/")
    assert "Vary" not in response.headers
    assert request_events(recorded)[-1].actor_type == "anonymous"


def test_the_session_is_named_by_a_keyed_hash(recorded, client, ada):
    log_in(client)
    key = client.cookies["sessionid"].value
    client.post("/whoami/")
    event = request_events(recorded)[-1]
    assert event.session_id == get_trail().redactor.keyed_hash(key)
    assert key not in repr(recorded())


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/admin/clinic/patient/", ("patient", None)),
        ("/admin/clinic/patient/add/", ("patient", None)),
        ("/admin/clinic/room/7_2Fb/change/", ("room", "7/b")),
        ("/admin/clinic/room/7/delete/", ("room", "7")),
        ("/admin/auth/user/1/password/", ("user", "1")),
    ],
)
def test_the_admins_requests_name_the_resource_that_its_changes_name(recorded, client, path, resource):
    client.force_login(User.objects.create_superuser("root", password="engine"))
    client.post(path)
    event = request_events(recorded)[-1]
    assert (event.resource_type, event.resource_id) == resource


def test_a_middleware_line_that_stands_twice_records_a_request_once(recorded, settings):
    settings.MIDDLEWARE = [settings.MIDDLEWARE[0], *settings.MIDDLEWARE]
    response = Client().post("/patients/?name=Grace")
    run(AsyncClient().post("/indifferent/"))
    assert [event.action for event in recorded()] == ["create", "POST /patients/", "POST /indifferent/"]
    assert response["X-Request-ID"] == recorded()[1].request_id


def test_a_secret_in_the_path_is_recorded_nowhere(recorded, client):
    client.post("/password/hunter2/")
    client.post("/old/sessions/hunter2/")
    first, second = request_events(recorded)
    assert (first.details["path"], first.resource_id) == ("/password/[redacted]/", "[redacted]")
    assert (second.details["path"], second.resource_id) == ("/old/sessions/[redacted]/", "[redacted]")
    assert "hunter2" not in repr(recorded())


def test_no_actor_is_left_over_after_a_request(recorded, client, ada):
    client.force_login(ada)
    client.post("/whoami/")
    Patient.objects.create(name="Ada")
    assert recorded()[-1].actor_type == "system"


# -- responses


def test_a_stream_runs_inside_of_its_request(recorded, client):
    Patient.objects.create(name="Ada")
    response = client.post("/rows/")
    assert b"".join(response.streaming_content) == b"Ada"
    assert [event.action for event in request_events(recorded)] == ["POST /rows/"]


def test_a_stream_that_is_closed_too_early_is_broken(recorded, client):
    response = client.post("/rows/")
    response.close()
    assert [event.action for event in recorded()][-1] == "response.broken"


def test_what_a_stream_does_while_it_is_closed_is_a_part_of_its_request(recorded, client):
    response = client.post("/export/")
    assert next(response.streaming_content) == b"first"
    response.close()
    by_action = {event.action: event for event in recorded()}
    assert by_action["export.ended"].request_id == by_action["POST /export/"].request_id
    assert by_action["export.ended"].actor_id == "dr-grey"


def test_a_file_is_left_to_the_server(recorded, client):
    response = client.post("/file/")
    assert b"FileResponse" in b"".join(response.streaming_content)
    response.close()
    assert [event.action for event in recorded()] == ["POST /file/"]


def test_without_a_key_the_application_does_not_start(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "file" / "state"))
    with pytest.raises(ConfigurationError, match="AUDIT_STATE_DIR"):
        AuditMiddleware(lambda request: None)


def test_a_url_in_the_place_of_a_trail_is_refused_without_its_password():
    with pytest.raises(ConfigurationError, match=r"not 'postgresql://.*: give trail=AuditTrail\(url\)") as refused:
        AuditMiddleware(lambda request: None, trail="postgresql://clinic:hunter2@db/clinic")
    assert "hunter2" not in str(refused.value)
