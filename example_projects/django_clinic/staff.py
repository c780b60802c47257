"""The staff that the clinic opens with."""

from __future__ import annotations

import os

from django.contrib.auth.models import Permission, User
from django.db import transaction

STAFF = {"osler": "doctor", "blackwell": "doctor", "barton": "nurse", "nightingale": "nurse", "morgan": "admin"}


@transaction.atomic
def hire() -> None:
    """Give the staff their accounts, unless they have them."""
    if User.objects.exists():
        return
    password = os.environ.get("CLINIC_PASSWORD", "change me")
    may_delete = Permission.objects.get(codename="delete_patient")
    for name, role in STAFF.items():
        user = User(username=name, is_staff=role == "admin", is_superuser=role == "admin")
        user.set_password(password)
        user.save()
        if role == "doctor":
            user.user_permissions.add(may_delete)
