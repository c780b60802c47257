"""What an application says of its trail, and what is wrong with it at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from audit_core.errors import ConfigurationError
from audit_core.integrity.note import key_name_is_valid
from audit_core.policy import AuditPolicy
from audit_core.redaction import Redactor, Rule
from audit_core.urls import without_password

ORIGIN_LIMIT = 200  # characters; it stands in every record


def checked_rules(
    redact: Mapping[str, Rule] | None, redactor: Redactor | None, *, erasable: bool
) -> Mapping[str, Rule] | None:
    """The rules by field. What is wrong is said at once; whoever only reads the trail makes no key for them.

    Raises ConfigurationError.
    """
    if redactor is not None and not isinstance(redactor, Redactor):
        raise ConfigurationError(
            f"redactor is a Redactor, not a {type(redactor).__name__}: give the rules as redact={{...}}."
        )
    Redactor(redact, hash_key=b"none")
    if redact and redactor:
        raise ConfigurationError("Give the rules as redact, or to the redactor, and not to both: it has its own.")
    if redactor and erasable and not redactor.erasable:
        raise ConfigurationError("Give erasable=True to the redactor, too: it decides which values are personal.")
    if (private := [name for name, rule in (redact or {}).items() if rule == "private"]) and not erasable:
        raise ConfigurationError(f"Values of {private[0]} can only be kept apart with erasable=True: add that.")
    return redact


def checked_policy(policy: AuditPolicy | None) -> AuditPolicy:
    """The policy, or the usual one. Raises ConfigurationError for anything else, which would fail at each request."""
    if policy is not None and not isinstance(policy, AuditPolicy):
        raise ConfigurationError(f"The policy is an AuditPolicy, not {policy!r}: give policy=AuditPolicy(reads=[...]).")
    return policy or AuditPolicy()


def checked_texts(name: str, given: str | Iterable[str]) -> list[str]:
    """One text or several. Raises ConfigurationError for anything else."""
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else [given]
    if strange := [one for one in several if not isinstance(one, str)]:
        raise ConfigurationError(f"{name} is a list of strings, and not {strange[0]!r}.")
    return several


def checked_seconds(name: str, given: float) -> float:
    """Raises ConfigurationError for what is no number above 0."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:  # nor is NaN
        raise ConfigurationError(f"{name} is a number of seconds above 0, not {given!r}.")
    return given


def no_trail(given: object, cure: str) -> ConfigurationError:
    """What to raise of what was given in the place of a trail, such as its URL."""
    shown = repr(without_password(given)) if isinstance(given, str) else f"a {type(given).__name__}"
    return ConfigurationError(f"The trail is an AuditTrail, not {shown}: give {cure}.")


def checked_origin(origin: str | None) -> str | None:
    """Raises ConfigurationError for a name that no checkpoint can have."""
    if origin is not None and not (
        isinstance(origin, str) and key_name_is_valid(origin) and len(origin) <= ORIGIN_LIMIT
    ):
        raise ConfigurationError(
            f"An origin is a name like clinic.example/audit, without spaces or plus signs, not {origin!r}."
        )
    return origin


def is_blocking(on_failure: str) -> bool:
    """Whether a caller has to see that his event is durable nowhere. Raises ConfigurationError."""
    if not isinstance(on_failure, str) or on_failure not in {"spill", "block"}:
        raise ConfigurationError(f'on_failure is "spill" or "block", not {on_failure!r}.')
    return on_failure == "block"
