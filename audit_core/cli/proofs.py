"""``audit prove``, ``audit check-proof`` and ``audit checkpoint``: what goes to somebody without the database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from audit_core.chain.proof import Proof
from audit_core.cli.place import AsJson, Out, Url, open_trail, read_file, read_key
from audit_core.cli.terminal import note, say, say_exactly, say_json
from audit_core.cli.words import count_of
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.note import VerifierKey, decode_base64, encode_base64, parse_note, spelled
from audit_core.noting import not_recorded
from audit_core.reports.text import safe_json


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(prove)
    app.command("check-proof", short_help="Check what `audit prove` wrote.")(check_proof)
    app.command()(checkpoint)


def prove(
    context: typer.Context,
    event: Annotated[
        str,
        typer.Argument(metavar="EVENT", help="Its sequence, which reports show, or its id (--format csv)."),
    ],
    *,
    url: Url = None,
    out: Out = None,
) -> None:
    """Prove that one event is in the trail.

    The proof is its record, and the hashes up to a signed checkpoint (RFC 9162, 2.1.3). Whoever has the verifier key
    checks it with `audit check-proof`.
    """
    with open_trail(context, url) as trail:
        proof = trail.prove(int(event) if event.isascii() and event.isdecimal() else event)
        if why := trail.note_reading("trail.read", {"proof_of": event}):
            note(not_recorded(why), "yellow")
        write_proof(proof, out)
    if out is not None:
        say(
            f"{out}: the proof of event {proof.index:,}, under the checkpoint of {_about(proof.checkpoint)}. Whoever "
            "gets it runs `audit check-proof FILE --key KEY`, with the verifier key from you by another way."
        )


def write_proof(proof: Proof, out: Path | None) -> None:
    """Write it as JSON to a new file, or to stdout."""
    write_document(safe_json(json.dumps(document_of(proof), indent=2)) + "\n", out)


def document_of(proof: Proof) -> dict[str, Any]:
    """A proof as JSON has it."""
    return {
        "record": proof.record,
        "index": proof.index,
        "hashes": [encode_base64(digest) for digest in proof.hashes],
        "checkpoint": proof.checkpoint,
        **({"rotations": proof.rotations} if proof.rotations else {}),
    }


def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `audit prove` wrote.")],
    *,
    key: Annotated[str, typer.Option(metavar="KEY|FILE", help="The verifier key, or a file that holds it.")],
    as_json: AsJson = False,
) -> None:
    """Check a proof; needs the verifier key and no database. Exit code 0 it holds, 1 it does not, 2 it is no proof."""
    verifier, proof = read_key(key), _parse(read_file(file), file)
    _check_trail(proof, verifier)
    try:
        head = proof.check(verifier)
    except (IntegrityError, ValueError, TypeError) as error:
        if as_json:
            plainly = _plainly(proof, verifier)
            say_json({"result": "failed", "exit_code": 1, "reason": str(error), "summary": plainly})
        else:
            say(f"FAILED: the proof does not hold: {error}", "bold red")
            say(_plainly(proof, verifier), "bold red")
        raise typer.Exit(1) from None
    record = json.loads(proof.record)
    if as_json:
        say_json({"result": "ok", "exit_code": 0, "origin": head.origin, "tree_size": head.size, "record": record})
        return
    say(
        f"OK: this record is event {proof.index:,} of {head.origin}, which signed {head.size:,} events.",
        "bold green",
    )
    say_json(record)


def _plainly(proof: Proof, key: VerifierKey) -> str:
    """What it comes to, for somebody who is no programmer."""
    try:
        proof.head(key)
    except IntegrityError:
        return "Nothing is proved: the checkpoint was changed, or somebody else than the holder of that key signed it."
    return "This is not what was proved: the record, or what is to prove it, was changed since."


def _check_trail(proof: Proof, key: VerifierKey) -> None:
    """Raises ConfigurationError for the key of another trail: that is a mistake of whoever gave it."""
    try:
        origin = Checkpoint.parse(parse_note(proof.checkpoint)[0]).origin
    except IntegrityError:
        return
    if origin != key.name:
        raise ConfigurationError(
            f"The proof is of the trail {spelled(origin)}, and the key that you gave of {spelled(key.name)}. If it is "
            "to be of the key's trail, somebody has changed it, or given you another one. Only if you meant the other "
            "trail, give the key that you were handed for that."
        )


def checkpoint(context: typer.Context, *, url: Url = None, out: Out = None) -> None:
    """Print the newest signed checkpoint. Kept elsewhere, it shows any later rewriting: `audit verify --checkpoint`."""
    with open_trail(context, url) as trail:
        if (signed := trail.chain.checkpoint_note()) is None:
            raise ConfigurationError("The trail has no checkpoint yet: run `audit init`.")
        write_document(signed, out)
    if out is not None:
        say(f"{out}: the checkpoint of {_about(signed)}. Keep it where whoever runs the database cannot change it.")


def _about(checkpoint: str) -> str:
    origin, size = checkpoint.splitlines()[:2]
    return f"{count_of(int(size))} of {origin}"


def write_document(text: str, out: Path | None) -> None:
    """To a new file, or to stdout. Raises ConfigurationError where there is a file of the name."""
    if out is None:
        say_exactly(text)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigurationError(
            f"The file {out} is there already, and is not overwritten: give another name with --out."
        ) from None


def _parse(text: str, path: Path) -> Proof:
    try:
        document: dict[str, Any] = json.loads(text)
        record, index, checkpoint = document["record"], document["index"], document["checkpoint"]
        rotations = tuple(map(str, document.get("rotations", ())))
        hashes = tuple(decode_base64(digest) for digest in document["hashes"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, IntegrityError) as error:
        raise ConfigurationError(
            f"The file {path} is not what `audit prove` writes ({type(error).__name__})."
        ) from None
    if not (isinstance(record, str) and isinstance(checkpoint, str) and type(index) is int):
        raise ConfigurationError(f"The file {path} is not what `audit prove` writes: a field has the wrong type.")
    return Proof(record, index, hashes, checkpoint, rotations)
