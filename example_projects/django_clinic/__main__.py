"""Prepare the clinic's database and serve it, with waitress or (``--asgi``) with uvicorn.

    pip install -e ".[django,cli]" waitress uvicorn
    python -m example_projects.django_clinic [--asgi]       # http://127.0.0.1:8000
    audit verify --url sqlite:///clinic.db

Everybody of ``staff.STAFF`` logs in with CLINIC_PASSWORD ("change me").
"""

import os
import signal
import sys

import django
from django.core.management import call_command

PORT = int(os.environ.get("PORT", "8000"))


def prepare() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "example_projects.django_clinic.settings"
    django.setup()
    call_command("migrate", verbosity=0)

    from example_projects.django_clinic.staff import hire

    hire()


def serve_wsgi() -> None:
    import waitress

    from example_projects.django_clinic.wsgi import application

    waitress.serve(application, host="127.0.0.1", port=PORT, threads=8)


def serve_asgi() -> None:
    import uvicorn

    uvicorn.run("example_projects.django_clinic.asgi:application", port=PORT, http="h11", lifespan="off")


if __name__ == "__main__":
    # An orderly exit, with which the trail ends orderly too; uvicorn first finishes what it is at.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    prepare()
    if "--asgi" in sys.argv:
        serve_asgi()
    else:
        serve_wsgi()
