"""Every change that Django's ORM makes, as an event in the transaction that makes it, on every database alias.

However rows are written, by ``save``, a query set, a related manager, a cascade or the admin, Django has one place for
each kind of statement: its compilers (``statements.py``). What they write is read with it, old and new, as the database
holds it. Around them lies what belongs together, a unit: the tables of one object (``saving.py``), a deletion with its
cascades (``deleting.py``), a bulk operation with its batches (``bulk.py``).

``post_save`` fires when ``save()`` has committed already: an event written there can be lost, and can remain of what
was undone. So a unit is a transaction that ends with its events. The signals stay where they were.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from audit_django.capture import bulk, deleting, saving, statements
from audit_django.capture.selection import audits, follow_rules

__all__ = ["audits", "follow_rules", "install"]


def install() -> None:
    """Capture the changes of every model, from now on. May be repeated."""
    for part in (saving, deleting, bulk, statements):
        for owner, name, wrap in part.WRAPPED:
            original = getattr(owner, name, None)  # a Django may not have it yet
            if original is not None and not hasattr(original, "__audit__"):
                wrapped: Any = wraps(original)(wrap(original))
                wrapped.__audit__ = True
                setattr(owner, name, wrapped)
