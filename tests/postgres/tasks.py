"""What `celery -A` loads."""

from tests.postgres.apps import celery_app

app = celery_app()
