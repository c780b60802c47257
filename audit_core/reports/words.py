"""What an event was, in words for somebody who is no engineer."""

from __future__ import annotations

from audit_core.reports.rows import SubjectRow

CHANGES = {"create": "created", "update": "changed", "delete": "deleted", "link": "linked", "unlink": "unlinked"}
_LOOKS = {"GET", "HEAD"}
_READS = {"read", "view", "viewed", "list", "listed", "export", "exported", "download", "downloaded"}
_OUTCOMES = {"denied": "It was refused.", "failure": "It did not succeed."}
_ACTORS = {
    "user": "a user",
    "admin": "an administrator",
    "service": "a program",
    "system": "the system itself",
    "anonymous": "somebody who was not logged in",
}


def deed(row: SubjectRow) -> str:
    """What was done; beside it stands the action as the trail has it."""
    if row.action == "trail.read":
        return "read a report about you"
    if row.action in CHANGES:
        return CHANGES[row.action]
    method, space, _ = row.action.partition(" ")
    if method in _LOOKS and space:
        return "looked at"
    if space and method.isupper():
        return "sent a request"
    return "looked at" if row.action.rpartition(".")[2] in _READS else row.action


def is_change(row: SubjectRow) -> bool:
    """Whether values were changed, as far as is shown."""
    return row.action in CHANGES or bool(row.changes)


def ending(row: SubjectRow) -> str:
    """How it ended, where that was not well."""
    return _OUTCOMES.get(row.outcome, "")


def kind_of_actor(row: SubjectRow) -> str:
    """What sort of actor it was."""
    return _ACTORS.get(row.who_is, row.who_is)
