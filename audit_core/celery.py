"""Celery: a task's events name who asked for it.

carry_actor()            beside ``app = Celery(...)``: in whatever asks for tasks, and in the workers

Whoever may write to the broker can start any task in anybody's name: Celery believes its messages, and so does the
trail.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final
from weakref import WeakKeyDictionary

from audit_core.context import Actor, AuditContext, end, enter, leave, said
from audit_core.event import ActorType
from audit_core.extras import needed_by

with needed_by("audit_core.celery", "celery", "celery"):
    from celery.app.task import Context, Task  # type: ignore[import-untyped]  # Celery has no types
    from celery.signals import before_task_publish, task_postrun, task_prerun  # type: ignore[import-untyped]

HEADER: Final = "audit_core"
_running: WeakKeyDictionary[Context, AuditContext] = WeakKeyDictionary()


def carry_actor() -> None:
    """Carry the actor along with every task that this process asks for or runs, from now on. May be repeated.

    An event inside a task has the actor, ``on_behalf_of``, tenant and request id of whoever asked for it, and the
    task's id and name in its details. Where nobody did (beat), the actor is the task itself, of type ``service``.
    """
    before_task_publish.connect(_publish, dispatch_uid=HEADER)
    task_prerun.connect(_begin, dispatch_uid=HEADER)
    task_postrun.connect(_end, dispatch_uid=HEADER)


def _publish(*, headers: dict[str, Any], **_: object) -> None:
    """A retry has the header already: it is whoever asked first, whatever the task was doing when it failed."""
    if HEADER not in headers and (context := said()) is not None:
        headers[HEADER] = _told(context)


def _begin(*, task: Task, task_id: str, **_: object) -> None:
    within = {"task": {"id": task_id, "name": task.name}}
    if task.request.is_eager and (caller := said()) is not None:  # called in the midst of what asks for it
        context = replace(caller, within={**caller.within, **within})
    else:
        context = _context(task, (task.request.headers or {}).get(HEADER))
        context.within = within
    _running[task.request] = context
    enter(context)


def _end(*, task: Task, **_: object) -> None:
    if (context := _running.pop(task.request, None)) is not None:
        (leave if task.request.is_eager else end)(context)


def _told(context: AuditContext) -> dict[str, str]:
    actor = context.current_actor()
    told = {
        "actor_id": actor.id,
        "actor_type": str(ActorType(actor.type)),
        "on_behalf_of": actor.on_behalf_of,
        "tenant_id": context.tenant_id,
        "request_id": context.request_id,
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _context(task: Task, told: object) -> AuditContext:
    """That of a task, by its header, which anybody may have written."""
    if told is None:
        return AuditContext(actor=Actor(task.name, ActorType.SERVICE.value))
    if isinstance(told, Mapping):
        with suppress(KeyError, ValueError):
            actor = Actor(told.get("actor_id"), ActorType(told["actor_type"]).value, told.get("on_behalf_of"))
            return AuditContext(actor=actor, tenant_id=told.get("tenant_id"), request_id=told.get("request_id"))
    return AuditContext(actor=Actor())
