"""Every change that an ORM makes, as an event in the transaction that makes it."""

from audit_core.orm.selection import unaudited
from audit_core.redaction import redacted

__all__ = ["redacted", "unaudited"]
