"""What an application says of its trail, and what is wrong with it at once."""

from __future__ import annotations

from collections.abc import Mapping

from audit_core.errors import ConfigurationError
from audit_core.integrity.note import key_name_is_valid
from audit_core.redaction import Redactor, Rule

ORIGIN_LIMIT = 200  # characters; it stands in every record


def checked_rules(
    redact: Mapping[str, Rule] | None, redactor: Redactor | None, *, erasable: bool
) -> Mapping[str, Rule] | None:
    """The rules by field. What is wrong is said at once; whoever only reads the trail makes no key for them.

    Raises ConfigurationError.
    """
    if redact and redactor:
        raise ConfigurationError("Give the rules as redact, or to the redactor, and not to both: it has its own.")
    if redactor and erasable and not redactor.erasable:
        raise ConfigurationError("Give erasable=True to the redactor, too: it decides which values are personal.")
    if (private := [name for name, rule in (redact or {}).items() if rule == "private"]) and not erasable:
        raise ConfigurationError(f"Values of {private[0]} can only be kept apart with erasable=True: add that.")
    Redactor(redact, hash_key=b"none")
    return redact


def checked_origin(origin: str | None) -> str | None:
    """Raises ConfigurationError for a name that no checkpoint can have."""
    if origin is not None and not (key_name_is_valid(origin) and len(origin) <= ORIGIN_LIMIT):
        raise ConfigurationError(
            f"An origin is a name like clinic.example/audit, without spaces or plus signs, not {origin!r}."
        )
    return origin


def is_blocking(on_failure: str) -> bool:
    """Whether a caller has to see that his event is durable nowhere. Raises ConfigurationError."""
    if on_failure not in {"spill", "block"}:
        raise ConfigurationError(f'on_failure is "spill" or "block", not {on_failure!r}.')
    return on_failure == "block"
