"""Who it was, with Django REST framework, which asks for the user only when its view begins."""

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import path
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import IsAdminUser, IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import JWTAuthentication, JWTStatelessUserAuthentication
from rest_framework_simplejwt.tokens import AccessToken

from tests.django.loops import run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]
ANONYMOUS = (None, "anonymous")


class Chart(APIView):
    authentication_classes = (TokenAuthentication,)
    permission_classes = (IsAuthenticated,)

    def post(self, request, chart_id):
        return Response({})


class Ward(Chart):
    authentication_classes = (JWTAuthentication,)


class Shift(Chart):
    authentication_classes = (JWTStatelessUserAuthentication,)


class Staff(Ward):
    permission_classes = (IsAdminUser,)


class Either(Chart):
    authentication_classes = (SessionAuthentication, TokenAuthentication)


class Anybody(Chart):
    authentication_classes = (TokenAuthentication,)
    permission_classes = ()


@api_view(["POST"])
@authentication_classes([JWTAuthentication])
@permission_classes([IsAuthenticated])
def decorated(request, chart_id):
    return Response({})


urlpatterns = [
    *(path(f"{view.__name__.lower()}/<int:chart_id>/", view.as_view())
      for view in (Chart, Ward, Shift, Staff, Either, Anybody)),
    path("decorated/<int:chart_id>/", decorated),
]  # fmt: skip


@pytest.fixture
def ada(db):
    return User.objects.create_user("ada", password="engine")


def jwt_of(user):
    return {"Authorization": f"Bearer {AccessToken.for_user(user)}"}


def who(recorded):
    """Actor and type of each request, oldest first."""
    return [(event.actor_id, event.actor_type) for event in recorded() if "method" in event.details]


def post(url, headers=None, *, asgi=False, **options):
    if asgi:
        return run(AsyncClient(raise_request_exception=False, **options).post(url, headers=headers or {}))
    return Client(raise_request_exception=False, **options).post(url, headers=headers or {})


@pytest.mark.parametrize("asgi", [False, True], ids=["wsgi", "asgi"])
def test_whoever_a_token_names_is_the_actor(recorded, ada, asgi):
    token = Token.objects.create(user=ada)
    headers = {"Authorization": f"Token {token.key}"}
    for url in ("/chart/7/", "/either/7/", "/anybody/7/"):
        assert post(url, headers, asgi=asgi).status_code == 200
    assert who(recorded) == [(str(ada.pk), "user")] * 3
    assert token.key not in repr(recorded())


@pytest.mark.parametrize("asgi", [False, True], ids=["wsgi", "asgi"])
def test_whoever_a_json_web_token_names_is_the_actor_with_and_without_a_query_for_him(recorded, ada, asgi):
    for url in ("/ward/7/", "/shift/7/", "/decorated/7/"):
        assert post(url, jwt_of(ada), asgi=asgi).status_code == 200
    assert who(recorded) == [(str(ada.pk), "user")] * 3


def test_whoever_is_denied_is_named_if_he_was_known_and_is_anonymous_if_he_was_not(recorded, ada):
    assert post("/staff/7/", jwt_of(ada)).status_code == 403
    expired = AccessToken.for_user(ada)
    expired.set_exp(from_time=expired.current_time, lifetime=-expired.lifetime)
    for headers in ({}, {"Authorization": f"Bearer {expired}"}, {"Authorization": "Bearer x.y.z"}):
        assert post("/ward/7/", headers).status_code == 401
    assert post("/anybody/7/").status_code == 200
    assert who(recorded) == [(str(ada.pk), "user")] + [ANONYMOUS] * 4
    assert [event.outcome for event in recorded() if "method" in event.details] == ["denied"] * 4 + ["success"]


def test_an_administrator_is_one_whichever_way_he_comes(recorded, db):
    root = User.objects.create_superuser("root", password="engine")
    post("/staff/7/", jwt_of(root))
    client = Client()
    client.force_login(root)
    client.post("/either/7/")
    assert who(recorded) == [(str(root.pk), "admin")] * 2


def test_who_has_a_session_is_nobody_to_a_view_that_asks_for_a_token(recorded, ada):
    client = Client(raise_request_exception=False)
    client.force_login(ada)
    assert client.post("/chart/7/").status_code == 401
    assert who(recorded) == [ANONYMOUS]


def test_nothing_of_ours_asks_for_the_user_or_makes_a_response_vary(recorded, ada, settings, django_assert_num_queries):
    headers = {"Authorization": f"Token {Token.objects.create(user=ada).key}"}
    with django_assert_num_queries(1):
        varies = post("/chart/7/", headers).headers.get("Vary")
    settings.MIDDLEWARE = [line for line in settings.MIDDLEWARE if "audit" not in line]
    with django_assert_num_queries(1):
        assert post("/chart/7/", headers).headers.get("Vary") == varies
    assert who(recorded) == [(str(ada.pk), "user")]
