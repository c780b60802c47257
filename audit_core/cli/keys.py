"""``audit keygen``."""

from __future__ import annotations

from typing import Annotated

import typer

from audit_core.cli.place import Url, open_trail
from audit_core.cli.terminal import note, say_exactly
from audit_core.errors import ConfigurationError
from audit_core.integrity.note import VerifierKey
from audit_core.keys import find_signer, generate_key


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(keygen)


def keygen(
    context: typer.Context,
    *,
    url: Url = None,
    verifier: Annotated[
        bool, typer.Option("--verifier", help="Print the verifier key that belongs to the present signing key.")
    ] = False,
    origin: Annotated[str | None, typer.Option(help="The trail's origin, for --verifier without the trail.")] = None,
) -> None:
    """Print a new private key, as AUDIT_KEY takes it."""
    if verifier:
        say_exactly(f"{_verifier_key(context, url, origin)}\n")
        return
    say_exactly(generate_key() + "\n")
    note("Set AUDIT_KEY to this line, or to the path of a file (mode 0600, not beside the database) that holds it.")
    note("Keep a copy: without it nothing more can be sealed. Whoever has it can forge what is not anchored.")


def _verifier_key(context: typer.Context, url: str | None, origin: str | None) -> VerifierKey:
    if origin is None:
        with open_trail(context, url) as trail:
            origin = trail.chain.origin
    if origin is None:
        raise ConfigurationError("The trail has no origin yet: run `audit init`, or give --origin.")
    if (signer := find_signer()) is None:
        raise ConfigurationError("This user has no signing key: set AUDIT_KEY to what `audit keygen` prints.")
    return VerifierKey(origin, signer.public_key)
