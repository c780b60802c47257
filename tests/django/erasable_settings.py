"""The same project with an erasable trail, whose application asks at each request who it is."""

from tests.django.settings import *  # noqa: F403
from tests.django.settings import MIDDLEWARE as _MIDDLEWARE

AUDIT = {"READS": ["patient"], "ERASABLE": True, "REDACT": {"patient.name": "private", "query": "private"}}
MIDDLEWARE = [*_MIDDLEWARE, "tests.django.erasable_settings.ask_who_it_is"]


def ask_who_it_is(get_response):
    def answer(request):
        request.user.get_username()
        return get_response(request)

    return answer
