"""For an ASGI server: uvicorn, hypercorn."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_projects.django_clinic.settings")
application = get_asgi_application()
