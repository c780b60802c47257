"""An error of Redis, or of its driver, in one sentence with the cure."""

from __future__ import annotations

from audit_core.errors import ConfigurationError, QueueUnavailableError

_REFUSED = ("NOAUTH", "WRONGPASS", "NOPERM", "invalid username-password", "Authentication required", "AUTH ")
_CURES = {  # what the server says, and what helps; it takes nothing until then, or for as long as it likes
    "OOM": "raise maxmemory, or see that somebody seals: what is sealed is removed",
    "maxmemory": "raise maxmemory, or see that somebody seals: what is sealed is removed",
    "READONLY": "it is a replica: name the primary",
    "read only replica": "it is a replica: name the primary",
    "MISCONF": "it cannot write to its disk: make room there, and see its log",
    "LOADING": "it is reading its file: it is back in a moment",
    "loading the dataset": "it is reading its file: it is back in a moment",
    "MASTERDOWN": "its primary cannot be reached",
    "NOREPLICAS": "it has fewer replicas than min-replicas-to-write asks for",
}


def explain(error: Exception, name: str) -> ConfigurationError | QueueUnavailableError:
    """What to raise for it."""
    from redis import exceptions

    text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError) or _says(text, _REFUSED):
        return ConfigurationError(
            f"{name}: {text}: correct the URL's user and password, or let that user do what docs/queues.md lists."
        )
    if isinstance(error, exceptions.MovedError | exceptions.AskError):
        return ConfigurationError(f"{name} is a cluster: name a Redis that is none.")
    if "WRONGTYPE" in text or "wrong kind of value" in text:
        return ConfigurationError(f"{name}: the key is no stream: name another one with ?stream=name.")
    if "unknown command" in text:
        return ConfigurationError(f"{name}: {text}: a queue needs Redis 5 or later.")
    cure = next((cure for sign, cure in _CURES.items() if sign in text), None)
    if cure is None and isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
        cure = "check that the server runs, and the URL's host and port"
    return QueueUnavailableError(f"{name}: {text}: {cure or 'see the log of the server'}.")


def _says(text: str, signs: tuple[str, ...]) -> bool:
    return any(sign in text for sign in signs)
