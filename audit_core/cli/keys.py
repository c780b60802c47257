"""``audit keygen``, and the life of a key: ``audit key rotate`` and ``audit key revoke``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from audit_core.chain.statements import revoke as state_revoked
from audit_core.cli.keeping import NOT_WRITABLE
from audit_core.cli.place import Url, open_trail, read_key
from audit_core.cli.report import moment
from audit_core.cli.terminal import note, say, say_exactly
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.statement import REVOKED
from audit_core.key_files import make_key, next_file, put_in_place
from audit_core.keys import find_signer, generate_key
from audit_core.trail import AuditTrail

Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it stands in the trail, and in each verdict.")]

app = typer.Typer(
    no_args_is_help=True,
    help="Replace the signing key, or say that one was stolen.\n\n`audit keygen` makes a key, `audit keygen "
    "--verifier` prints the verifier key, `audit status` says where the key lies: see docs/keys.md.",
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(keygen)


def keygen(
    context: typer.Context,
    *,
    url: Url = None,
    verifier: Annotated[
        bool,
        typer.Option("--verifier", help="Make none: print the verifier key of the one that there is, for auditors."),
    ] = False,
    origin: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --verifier: the trail's origin, where it is not at hand.")
    ] = None,
) -> None:
    """Print a new private key, as AUDIT_KEY takes it. Or, with --verifier, the public half of the present one."""
    if verifier:
        say_exactly(f"{_verifier_key(context, url, origin)}\n")
        return
    say_exactly(generate_key() + "\n")
    note("Set AUDIT_KEY to this line, or to the path of a file (mode 0600, not beside the database) that holds it.")
    note("Keep a copy: without it nothing more can be sealed. Whoever has it can forge what is not anchored.")


@app.command()
def rotate(
    context: typer.Context,
    *,
    url: Url = None,
    new: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The file of the new key, made if it is not there; set AUDIT_KEY to it then."
        ),
    ] = None,
    lost: Annotated[
        bool, typer.Option("--lost", help="The present key is gone: the new one signs alone, and auditors must ask.")
    ] = False,
) -> None:
    """Replace the signing key, by an event that the present one signs. Run it again if it was interrupted."""
    with open_trail(context, url) as trail:
        may_state(trail, "key rotate")
        place = None if new else trail.signing_key.file
        if new is None and place is None:
            raise ConfigurationError(
                "The present key lies in no file whose place the new one could take: name a file for that with --new, "
                "and set AUDIT_KEY to it afterwards."
            )
        before = trail.chain.key
        key = _rotate(trail, new or next_file(Path(str(place))), lost=lost)
        kept = _put_in_place(place) if place else None
    say(f"verifier key  {key}")
    if place is None:
        note(f"Set AUDIT_KEY to {new} now: until they have it, running processes seal nothing, and lose nothing.")
    elif kept:
        note(
            f"The key before, {before}, lies in {kept}: a backup from before today needs it, and so does every other "
            "trail of this user that was made with it. If it was stolen, rotate theirs, too, and remove it then."
        )
    note("Hand the new verifier key to the auditor; the one before leads to it, unless it was lost.")
    note("Other hosts that seal need the new key: until then their events wait.")


def _rotate(trail: AuditTrail, place: Path, *, lost: bool) -> VerifierKey:
    """The event is there once, however often this is begun."""
    signer, ring = make_key(place), trail.chain.keyring
    if ring is None:
        raise ConfigurationError("The trail has not begun: its first event will name the key that there is then.")
    if signer.public_key == ring.present.public_key:
        return ring.present
    if lost and trail.signing_key.is_named_by(trail.chain):
        raise ConfigurationError("The trail's key is here, and not lost: run `audit key rotate` without --lost.")
    return trail.rotate_key(signer, lost=lost)


def _put_in_place(place: Path) -> Path | None:
    """A running process may have done so already."""
    try:
        return put_in_place(place)
    except FileNotFoundError:
        return None


@app.command()
def revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY|FILE", help="The verifier key of the one that was stolen.")],
    *,
    url: Url = None,
    since: Annotated[
        datetime, typer.Option(metavar="TIME", parser=moment, help="When it may have come into other hands.")
    ],
    reason: Reason,
) -> None:
    """Say that an earlier key was stolen. Verification then tells what it does not vouch for."""
    revoked = read_key(key)
    with open_trail(context, url) as trail:
        may_state(trail, "key revoke")
        with trail.store.transaction(patient=True) as connection:
            event = trail.event(REVOKED)
            state_revoked(trail.chain, revoked, event, connection, since=since, reason=reason)
    say(f"{revoked} is revoked: `audit verify` says which of its events nobody vouches for.")
    note("What an anchor with a clock of its own had before that time is safe.")


def may_state(trail: AuditTrail, command: str) -> None:
    """Raises StoreUnavailableError for whoever may not seal."""
    if not (trail.store.is_writable() and trail.store.may_append()):
        raise StoreUnavailableError(NOT_WRITABLE.format(command=command))


def _verifier_key(context: typer.Context, url: str | None, origin: str | None) -> VerifierKey:
    if origin is None:
        with open_trail(context, url) as trail:
            origin = trail.chain.origin
    if origin is None:
        raise ConfigurationError("The trail has no origin yet: run `audit init`, or give --origin.")
    if (signer := find_signer()) is None:
        raise ConfigurationError("This user has no signing key: set AUDIT_KEY to what `audit keygen` prints.")
    return VerifierKey(origin, signer.public_key)
