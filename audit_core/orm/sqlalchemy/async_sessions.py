"""What SQLAlchemy can listen to of its asyncio sessions.

Imported only where the application has imported them: they need greenlet, which SQLAlchemy may not bring along.
"""

from __future__ import annotations

import weakref
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session

_made: weakref.WeakSet[type] = weakref.WeakSet()


def sync_side(target: Any) -> Any | None:
    """The synchronous sessions under an asynchronous target; None for anything else."""
    if isinstance(target, async_scoped_session):
        return sync_side(target.session_factory)
    if isinstance(target, AsyncSession):
        return target.sync_session
    if isinstance(target, async_sessionmaker):
        found = target.kw.get("sync_session_class") or target.class_.sync_session_class
        own = _own(found) if isinstance(found, type) else found
        target.configure(sync_session_class=own)
        return own
    if isinstance(target, type) and issubclass(target, AsyncSession):
        target.sync_session_class = _own(target.sync_session_class)
        return target.sync_session_class
    return None


def _own(sessions: type[Session]) -> type[Session]:
    """A class for these asynchronous sessions alone: to listen to ``Session`` would be to listen to all there are."""
    if sessions in _made:
        return sessions
    own = type(sessions.__name__, (sessions,), {"__module__": sessions.__module__, "__doc__": sessions.__doc__})
    _made.add(own)
    return own
