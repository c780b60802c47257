"""The ids that events may have of a resource: one that is a secret itself is hashed, unless a rule keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from audit_core.normalise import FIELD_LIMITS, clean_text
from audit_core.redaction import REDACTED, Redactor

LACKS_KEY = (
    "ids of {0} may be secrets, of which events have keyed hashes, and there is no key to find them with: set "
    "AUDIT_HASH_KEY"
)
UNNAMED = f"events of {{0}} have {REDACTED} in the place of an id, and whether they are about this one nobody can tell"


class RecordedIds(NamedTuple):
    """Those of one resource. ``[redacted]`` is never one of them: events of any other secret have it, too."""

    resource_type: str
    shown: str  # the one that others may see, and that events about this one may have
    any_of: tuple[str, ...]
    is_secret: bool = False
    lacks_key: bool = False

    @property
    def name(self) -> str:
        """For a reader, and for what the trail says of who has read."""
        return f"{self.resource_type}:{self.shown}"

    @property
    def asked(self) -> dict[str, Any]:
        """As an ``EventQuery`` has it."""
        if len(self.any_of) == 1:
            return {"resource_type": self.resource_type, "resource_id": self.any_of[0]}
        return {"resource_type": self.resource_type, "resource_ids": self.any_of}


def recorded_ids(
    resource_type: str, resource_id: object, redactor: Redactor, find_hasher: Callable[[], Redactor | None]
) -> RecordedIds:
    """``find_hasher`` gives what has the hash key, if there is one; the ``redactor`` may have none.

    A rule that keeps or hides the id may be younger than an event: both ids are looked for, whatever it says now.
    """
    kind = clean_text(resource_type, FIELD_LIMITS["resource_type"])
    plain = clean_text(resource_id, FIELD_LIMITS["resource_id"])
    is_hidden = redactor.identifier(plain, kind) != plain
    if not is_hidden and Redactor().identifier(plain, kind) == plain:
        return RecordedIds(kind, plain, (plain,))
    if (hasher := find_hasher()) is None:
        return RecordedIds(kind, REDACTED if is_hidden else plain, (plain,), is_secret=True, lacks_key=True)
    hashed = hasher.keyed_hash(plain)
    return RecordedIds(kind, hashed if is_hidden else plain, (plain, hashed), is_secret=True)
