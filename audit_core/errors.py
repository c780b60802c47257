"""Two families: the trail is bad, or it cannot be reached. Every message names the cure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AuditError(Exception):
    """Whatever audit-core raises."""


class ConfigurationError(AuditError):
    """A setting is missing or wrong; nothing was written."""


class BulkForbiddenError(AuditError):
    """The settings forbid this bulk operation; nothing was written."""


class IntegrityError(AuditError):
    """The trail is bad: a note, proof or checkpoint does not hold."""


class StoreUnavailableError(AuditError):
    """The database cannot take or give events just now; a later try may succeed."""


class LockedError(StoreUnavailableError):
    """Somebody else writes the file just now, and is done in a moment."""


class RefusedError(StoreUnavailableError):
    """The database refuses these events for as long as something there is as it is; others it may take."""


class QueueUnavailableError(StoreUnavailableError):
    """A queue cannot take or give events just now; what waits in databases goes on."""


class BusyError(StoreUnavailableError):
    """Somebody else is sealing just now, and does what we would have done."""


class ConflictError(AuditError):
    """Somebody else appended at this place of the chain first; read the head again."""


class Cures:
    """What messages tell the reader to run. A framework with commands of its own sets its own words."""

    make_tables = "run `audit init`"
    begin_trail = "`audit init`"


def nearest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean ...?``, or nothing where nothing is near."""
    names = sorted(known)
    folded = {name.casefold(): name for name in names}
    found = get_close_matches(word, names, n=1) or get_close_matches(word.casefold(), folded, n=1)
    return f" Did you mean {folded.get(found[0], found[0])!r}?" if found else ""
