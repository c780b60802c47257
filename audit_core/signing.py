"""The key that a process signs with, and whether it is the trail's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from audit_core.chain import AuditChain
from audit_core.errors import AuditError, ConfigurationError, IntegrityError
from audit_core.integrity.note import Signer, VerifierKey
from audit_core.key_files import beside, find_key, key_file, next_file, put_in_place
from audit_core.keys import LocalSigner, find_signer, load_signer, signer_place

logger = logging.getLogger("audit_core")

CURE = (
    "set AUDIT_KEY to the key that the trail was made with, or to the one that replaced it, which the account that "
    "began it has (in its own AUDIT_KEY, or in ~/.local/state/audit-core/signing.key)"
)
UNFINISHED = "a rotation was begun and not finished ({}): run `audit key rotate` again"


class _Given:
    """A signer that the application has given: a KMS, say, which may be away."""

    def __init__(self, signer: Signer) -> None:
        """Raises ConfigurationError for a signer that is none."""
        if not callable(getattr(signer, "sign", None)):
            raise ConfigurationError(
                f"A signer has a public_key and sign(message), unlike this {type(signer).__name__}: a key as text goes "
                "into AUDIT_KEY."
            )
        self._signer = signer

    @property
    def public_key(self) -> bytes:
        """Raises ConfigurationError while it cannot be had."""
        with _translated():
            return bytes(self._signer.public_key)

    def sign(self, message: bytes) -> bytes:
        """Raises ConfigurationError while nothing can be signed: the transaction that is open must not end by that."""
        with _translated():
            return bytes(self._signer.sign(message))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except AuditError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"The signer cannot be used ({type(error).__name__}: {error}): see to the service that holds the key. "
            "Events wait in the outbox."
        ) from error


def _finish(path: Path) -> None:
    """What a rotation that was interrupted has left to do."""
    try:
        kept = put_in_place(path)
    except OSError as error:
        logger.warning("The new signing key could not be put into %s (%s): run `audit key rotate` again.", path, error)
    else:
        logger.warning("The signing key in %s is the new one; the one before lies in %s.", path, kept or "no file")


class SigningKey:
    """The signer that the application has given, else this user's."""

    def __init__(self, signer: Signer | None) -> None:
        """Raises ConfigurationError for a signer that is none."""
        self._signer: Signer | None = None if signer is None else _Given(signer)
        self._is_given = signer is not None
        self._found_in: Path | None = None  # where the one in use was found, if not in its place

    @property
    def place(self) -> str | None:
        """Where it lies: a file, or AUDIT_KEY; None where there is none."""
        if self._is_given:
            return "what the application has given"
        return str(self._found_in) if self._found_in else signer_place()

    @property
    def own(self) -> Signer | None:
        """The key that is there; none is made."""
        return self._signer or find_signer()

    @property
    def file(self) -> Path | None:
        """Where a new key can take its place; None where it lies in no file."""
        try:
            return None if self._is_given else key_file()
        except ConfigurationError:  # this user has no home directory
            return None

    def take(self, signer: Signer) -> None:
        """From now on this one signs."""
        self._signer = signer if isinstance(signer, LocalSigner) else _Given(signer)

    @property
    def next_place(self) -> Path | None:
        """The file of a new key that is not in its place: a rotation was not finished."""
        path = None if self.file is None else next_file(self.file)
        return path if path is not None and path.exists() else None

    def renew(self, accepts: Callable[[bytes], bool]) -> bool:
        """Look whether the trail's key lies beside the one that was loaded: one that ``accepts`` takes.

        The next one, if the event that names it is committed: then it is put in its place. Or an earlier one, which
        signs another trail of this user, or one of which a backup was put back.
        """
        path = self.file
        for where, signer in self._files():
            if accepts(signer.public_key):
                self._signer, self._found_in = signer, where
                if path is not None and where == next_file(path):
                    self._found_in = None
                    _finish(path)
                return True
        return False

    def held(self) -> list[Signer]:
        """Every key that is there: the one in use, the next one, earlier ones."""
        return [*([self.own] if self.own else []), *(signer for _, signer in self._files())]

    def _files(self) -> list[tuple[Path, LocalSigner]]:
        if (path := self.file) is None:
            return []
        present = find_key(path)
        return [*([(path, present)] if present else []), *beside(path)]

    def for_beginning(self) -> Signer:
        """The key of a trail that has none yet: made, where there is none. Raises ConfigurationError."""
        if self._signer is None:
            self._signer = load_signer()
        return self._signer

    def for_sealing(self) -> Signer:
        """The key to sign with. Raises ConfigurationError where there is none."""
        if self._signer is None:
            self._signer = find_signer()
        if self._signer is None:
            raise ConfigurationError(f"This user has no signing key: {CURE}; until then its events wait in the outbox.")
        return self._signer

    def is_of(self, chain: AuditChain) -> bool:
        """Whether the chain names it or is signed with it, or has not begun."""
        if not (origin := chain.origin):
            return True
        try:
            if (own := self.own) is None:
                return False
            key = VerifierKey(origin, own.public_key)
            # Named is enough: a checkpoint that somebody else has put there makes no other key of it.
            if (ring := chain.keyring) is None:
                return chain.is_signed_by(key)
            if key in ring.keys:
                return key == ring.present or self.renew(lambda public: public == ring.present.public_key)
            return chain.is_signed_by(key) or self.renew(lambda public: public == ring.present.public_key)
        except IntegrityError:  # the first event was changed, and names an origin that none can have
            return False

    def own_of(self, chain: AuditChain) -> Signer | None:
        """The key that is there; the one of this chain, where the keys of several trails lie beside each other."""
        with suppress(AuditError):
            self.is_of(chain)
        return self.own

    def is_named_by(self, chain: AuditChain) -> bool:
        """Whether the chain has begun, and is signed with this user's key or names it. Raises as the store does."""
        return chain.origin is not None and self.is_of(chain)
