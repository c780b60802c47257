"""A project with an erasable trail, from the request to the certificate: nothing of the person is left in its files."""

import json

from tests.django.projects import migrated_project

SECRETS = ("Lovelace", "ada@secret.example", "SecretAgent", "203.0.113.77")
LIVE = """
import json
from django.contrib.auth.models import User
from django.test import Client
from audit_django import get_trail
from tests.django.clinic.models import Patient

user = User.objects.create_user("u1", "ada@secret.example", "a long password")
client = Client(headers={"User-Agent": "SecretAgent/7"}, REMOTE_ADDR="203.0.113.77")
login = json.dumps({"username": "u1", "password": "a long password"})
assert client.post("/login/", login, content_type="application/json").status_code == 200
patient = client.post("/patients/?name=Ada+Lovelace").json()["id"]
assert client.get(f"/patients/{patient}/").status_code == 200
told = [e for e in get_trail().events(resource=("patient", patient), action="create")]
assert (told[0].ip_address, told[0].details["changes"]["name"]["new"]) == ("203.0.113.77", "Ada Lovelace"), told
print(json.dumps([user.pk, patient]))
"""
FORGET = """
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from tests.django.clinic.models import Patient
Session.objects.all().delete()
for patient in Patient.objects.all(): patient.delete()
for user in User.objects.all():
    user.email = ""
    user.save()
"""
READ = """
from audit_django import get_trail
for e in get_trail().events(): print(e.action, e.ip_address, e.user_agent, e.details)
"""


def test_what_an_application_wrote_of_a_person_is_nowhere_after_an_erasure(tmp_path):
    project = migrated_project(tmp_path, DJANGO_SETTINGS_MODULE="tests.django.erasable_settings")
    project.manage("migrate", "-v0")
    user, patient = json.loads(project.script(LIVE).stdout)
    assert set(found_in(tmp_path)) == set(SECRETS)
    project.script(FORGET)
    whose = ["--actor", str(user), "--resource", f"user:{user}", "--resource", f"patient:{patient}"]
    why = ["--basis", "GDPR Art. 17", "--approved-by", "officer", "--out", str(tmp_path / "certificate.json")]
    done = project.manage("audit", "erase", *whose, *why, "--vacuum")
    assert "erased, with their salts" in done.stdout
    assert found_in(tmp_path) == []
    checked = project.manage("audit", "verify", "--json", check=False)
    assert json.loads(checked.stdout)["findings"] == [], checked.stdout
    assert "[erased]" in project.script(READ).stdout


def found_in(folder):
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return [secret for secret in SECRETS if secret.encode() in content]
