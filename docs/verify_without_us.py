"""Checks a copy of an audit trail with nothing of audit-core: written from formats.md alone.

    python verify_without_us.py copy.db clinic.example/audit+0123abcd+AbC... [kept.checkpoint] [folder]

The key is any that the trail has had, and that no later one says to have been lost. A file is a checkpoint that you
kept: without it nobody sees that the end was cut off. A folder has the objects of months that were archived: without it
their events are compared by their hashes alone, and you are told so. Needs Python 3.11 and the package `cryptography`.
Exit status 0 if all fits, 1 at the first thing that does not, and 2 if what you gave cannot be used:
then nothing is said about the trail.
"""

import base64
import gzip
import hashlib
import hmac
import json
import sqlite3
import sys
from itertools import islice
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

COLUMNS = (
    "action actor_id actor_type details event_id ip_address on_behalf_of outcome previous_hash private request_id "
    "resource_id resource_type sequence session_id source tenant_id timestamp user_agent"
).split()


class Wrong(Exception):
    """What does not fit."""


class Unusable(Exception):
    """What the auditor gave and cannot be used."""


def check(holds, what, error=Wrong):
    if not holds:
        raise error(what)


def sha256(data):
    return hashlib.sha256(data).digest()


def to_json(value):
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def open_key(text):
    """Origin, key hash and public key."""
    try:
        origin, key_hash, encoded = text.split("+", 2)
        typed = base64.b64decode(encoded, validate=True)
        whole = len(typed) == 33 and sha256(origin.encode() + b"\n" + typed)[:4].hex() == key_hash
    except ValueError:
        whole = False
    check(whole, "The key that you gave is not whole: copy it again", Unusable)
    check(typed[0] == 1, "The key that you gave is not of Ed25519", Unusable)
    return origin, bytes.fromhex(key_hash), Ed25519PublicKey.from_public_bytes(typed[1:])


def sort_out(paths):
    """The file with a checkpoint, and the folder with archives, or None."""
    files = [path for path in paths if not Path(path).is_dir()]
    folders = [path for path in paths if Path(path).is_dir()]
    check(len(files) < 2 and len(folders) < 2, "Give one file and one folder at most", Unusable)
    return (files or [None])[0], (folders or [None])[0]


def open_kept(path, origin):
    """Size, root and signatures of the checkpoint in a file."""
    try:
        text, _, signatures = Path(path).read_text(encoding="utf-8").rpartition("\n\n")
        named, size, root = text.split("\n")
        check(
            named == origin, f"The checkpoint that you gave is of the trail {named}, and the key of {origin}", Unusable
        )
        found = [line.split(" ")[2] for line in signatures.splitlines() if line.startswith(f"— {origin} ")]
        return int(size), root, found
    except (OSError, ValueError, IndexError) as error:
        raise Unusable("The checkpoint that you gave is none") from error


def leaf_of(event, origin):
    details = json.loads(event["details"])
    check(to_json(details) == event["details"], f"details at {event['sequence']} are not canonical")
    record = to_json({**event, "details": details, "log": origin, "v": 1}).encode()
    check(len(record) <= 65_535, f"the record at {event['sequence']} is too long")
    return sha256(b"\0" + record)


def grow(edge, size, leaf):
    """Add leaf number `size` to the frontier of the tree."""
    while size & 1:
        leaf, size = sha256(b"\1" + edge.pop() + leaf), size >> 1
    edge.append(leaf)


def root_of(edge):
    *larger, root = edge
    for left in reversed(larger):
        root = sha256(b"\1" + left + root)
    return root


def is_signed(text, signatures, key):
    _, key_hash, public = open_key(key)
    for signature in signatures:
        try:
            signed = base64.b64decode(signature, validate=True)
            if signed[:4] == key_hash:
                public.verify(signed[4:], text.encode())
                return True
        except (ValueError, TypeError, InvalidSignature):
            pass
    return False


class Keys:
    """Those of the trail, each with the smallest tree that it signs, and what they say of the trail."""

    def __init__(self, first, yours):
        self.reigns, self.yours, self.vouched = [(0, first)], yours, first == yours
        self.abandoned, self.erased, self.remarks = set(), [], []
        self.archives, self.purged = {}, {}  # by the sequence of the statement that archived

    def at(self, size):
        """The one that signs a tree of this size."""
        return [key for first, key in self.reigns if first <= size][-1]

    def follow(self, event, origin):
        """Go on by a statement; what is signed by nobody who may make it is an event as any other."""
        if (event["resource_type"], event["resource_id"]) != ("trail", origin):
            return
        place = f"{origin}\n{event['action']}\n{event['sequence']}\n{event['previous_hash']}"
        try:
            said = json.loads(event["details"])
            says, signatures, present = said["says"], said["signatures"], self.reigns[-1][1]
            text = f"audit-core statement v1\n{place}\n{to_json(says)}\n"
            if event["action"] == "key.rotated" and says["old"] == present and is_signed(text, signatures, says["new"]):
                self.rotate(says, event["sequence"], by_both=is_signed(text, signatures, present))
            elif event["action"] == "key.revoked" and is_signed(text, signatures, present):
                self.remarks.append(f"The key {says['key']} was stolen: see `audit verify` for what that leaves.")
            elif event["action"] == "trail.restored" and is_signed(text, signatures, present):
                self.abandoned |= {(size, root) for size, root in says["abandoned"]}
                self.remarks.append(
                    f"A backup was put back: {says['lost']} events from {says['lost_from']} on are lost."
                )
            elif event["action"] == "trail.archived" and is_signed(text, signatures, present):
                self.archives[event["sequence"]] = says
            elif event["action"] == "trail.purged" and is_signed(text, signatures, present):
                self.purged[says["archive"]] = event["sequence"]
            elif event["action"] == "trail.erased" and is_signed(text, signatures, present):
                ranges = [(place, *one) for place, all_ in says["erased"].items() for one in all_]
                if all(first <= last < event["sequence"] for _, first, last in ranges):
                    self.erased += ranges
                    self.remarks.append(f"Values were erased by event {event['sequence']}: {says['basis']}.")
        except (ValueError, TypeError, KeyError, AttributeError, Unusable):
            return

    def has_erased(self, sequence, name):
        """Whether a statement lists this value, or what it is a part of."""
        places = [place for place, first, last in self.erased if first <= sequence <= last]
        return any(name == place or name.startswith(f"{place}/") for place in places)

    def rotate(self, says, sequence, *, by_both):
        """Take the next key, which has signed for itself."""
        new, lost = says["new"], says.get("lost") is True
        if (by_both or lost) and new not in {key for _, key in self.reigns} and open_key(new):
            self.reigns.append((sequence + (1 if lost else 2), new))
            self.vouched = new == self.yours or (self.vouched and not lost)


def open_database(path):
    database = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
    database.text_factory = lambda text: text.decode("utf-8", "surrogateescape")  # no UTF-8 is no record, and is found
    return database


def values_of(database, event, are_kept):
    """What is kept beside the record: the name of each value that it commits to, and whether that is there."""
    committed = json.loads(event["private"]) if event["private"] else {}
    query = "SELECT name, salt, value FROM audit_private WHERE sequence = ?"
    there = list(database.execute(query, (event["sequence"],))) if are_kept else []
    for name, salt, value in there:
        check(name in committed, f"a value {name} was put beside the event {event['sequence']}")
        key = base64.b64decode(salt, validate=True)
        made = base64.b64encode(hmac.digest(key, value.encode(), "sha256")).decode()
        fits = made == committed[name] and base64.b64encode(key).decode() == salt
        check(fits, f"the value {name} of the event {event['sequence']} was changed")
    names = {name for name, _, _ in there}
    return [(event["sequence"], name, name in names) for name in committed]


def has_table(database, name):
    return bool(list(database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))))


def rows_of(database):
    """In order of sequence: the hash, the event if it is there, and what is left of it if it was archived."""
    query = "SELECT sequence, event_hash, event_id, archive FROM audit_archived ORDER BY sequence"
    all_left = iter(database.execute(query) if has_table(database, "audit_archived") else ())
    left = next(all_left, None)
    for event_hash, *values in database.execute(
        f"SELECT event_hash, {', '.join(COLUMNS)} FROM audit_events ORDER BY sequence"
    ):
        event = dict(zip(COLUMNS, values, strict=True))
        while left and left[0] < event["sequence"]:
            yield left[1], None, left
            left = next(all_left, None)
        both = left if left and left[0] == event["sequence"] else None  # its removal was interrupted
        yield event_hash, event, both
        left = next(all_left, None) if both else left
    while left:
        yield left[1], None, left
        left = next(all_left, None)


class Archived:
    """What is left of archived events, and their records, where those are at hand."""

    def __init__(self, database, origin, folder):
        self.database, self.origin, self.folder, self.tallies = database, origin, folder, {}

    def add(self, left, stored):
        """Count in what is left of an event, if it was archived."""
        if left is None:
            return
        sequence, event_hash, event_id, archive = left
        check(event_hash == stored, f"what is left of the event {sequence} was changed")
        digest, count, first, _ = self.tallies.get(archive, (hashlib.sha256(), 0, sequence, 0))
        digest.update(f"{sequence} {event_hash} {event_id}\n".encode())
        self.tallies[archive] = digest, count + 1, first, sequence

    def check(self, keys):
        """That signed statements say so of each; then the events whose records were read."""
        for number, (digest, count, first, last) in self.tallies.items():
            says = keys.archives.get(number)
            check(says, f"no signed statement says that the events {first} to {last} were archived")
            signed = says["events"], says["first"], says["last"], says["hashes"]
            check(signed == (count, first, last, digest.hexdigest()), f"of {says['month']} another archive is signed")
            alone = f"{count} events were compared by their hashes alone"
            if number in keys.purged:
                self.check_forgotten(number)
                keys.remarks.append(f"{says['month']} was purged by event {keys.purged[number]}: {alone}.")
            elif self.folder is None:
                keys.remarks.append(f"{says['month']} is archived: {alone}; give the folder with {says['object']}.")
            else:
                yield from self.read(says, number)

    def read(self, says, number):
        """The events of an object."""
        lines = self.database.execute(
            "SELECT sequence, event_hash FROM audit_archived WHERE archive = ? ORDER BY sequence", (number,)
        )
        path = Path(self.folder) / says["object"]
        check(path.is_file(), f"There is no {says['object']} in {self.folder}", Unusable)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        check(digest == says["sha256"], f"{says['object']} is another one than was archived")
        with gzip.open(path) as file:
            check(json.loads(file.readline())["log"] == self.origin, f"{says['object']} is of another trail")
            for line, (sequence, event_hash) in zip(file, lines, strict=True):
                record = json.loads(line)["record"]
                event = {name: record[name] for name in COLUMNS} | {"details": to_json(record["details"])}
                fits = event["sequence"] == sequence and leaf_of(event, self.origin).hex() == event_hash
                check(fits, f"the event {sequence} was changed before it was archived")
                follows = event["previous_hash"] == self.hash_before(sequence)
                check(follows, f"the event {sequence} does not follow the one before")
                yield event

    def hash_before(self, sequence):
        """Of the event before, which may be archived, too."""
        query = "SELECT event_hash FROM {} WHERE sequence = ?"
        for table in ("audit_events", "audit_archived"):
            if found := self.database.execute(query.format(table), (sequence - 1,)).fetchone():
                return found[0]
        return None

    def check_forgotten(self, number):
        """What lay beside the records of a purged month was removed with them."""
        if has_table(self.database, "audit_private"):
            query = "SELECT count(*) FROM audit_private JOIN audit_archived USING (sequence) WHERE archive = ?"
            (count,) = self.database.execute(query, (number,)).fetchone()
            check(not count, "there are values beside the records of a month that was purged")


def verify(path, verifier_key, *more):
    """How many events fit, how many a kept checkpoint vouches for, and what else there is to say."""
    origin = open_key(verifier_key)[0]
    kept_path, folder = sort_out(more)
    kept_size, kept_root, kept_by = open_kept(kept_path, origin) if kept_path else (0, "", [])
    database = open_database(path)
    rows, archived = rows_of(database), Archived(database, origin, folder)
    edge, size, previous, keys, kept_fits, beside = [], 0, "0" * 64, None, False, []
    are_kept = has_table(database, "audit_private")
    for tree_size, first, root, signature, frontier in database.execute(
        "SELECT tree_size, first_sequence, root, signature, frontier FROM audit_checkpoints ORDER BY tree_size"
    ):
        check(first == size and tree_size > size, f"there is no checkpoint from {size} on")
        for event_hash, event, left in islice(rows, tree_size - size):
            check((event["sequence"] if event else left[0]) == size, f"the event {size} is missing")
            archived.add(left, event_hash)
            check(not event or event["previous_hash"] == previous, f"the event {size} does not follow the one before")
            leaf = leaf_of(event, origin) if event else bytes.fromhex(event_hash)
            check(leaf.hex() == event_hash, f"the event {size} was changed")
            if size == 0:
                created = json.loads(event["details"])
                check(created["origin"] == origin, "it names another key, or you gave that of another trail")
                keys = Keys(created["key"], verifier_key)
            if event:
                keys.follow(event, origin)
                beside += values_of(database, event, are_kept)
            grow(edge, size, leaf)
            size, previous = size + 1, event_hash
            kept_fits = kept_fits or (size == kept_size and base64.b64encode(root_of(edge)).decode() == kept_root)
        check(size == tree_size, f"the event {size} is missing")
        check(base64.b64encode(root_of(edge)).decode() == root, f"the root of the first {size} events is another")
        check(frontier in {None, b"".join(edge)}, f"the frontier of the first {size} events is another")
        signed = is_signed(f"{origin}\n{tree_size}\n{root}\n", [signature], keys.at(tree_size))
        check(signed, f"a signature does not verify: the checkpoint of {tree_size} events is not by the trail's key")
    check(next(rows, None) is None, f"no checkpoint covers the event {size}")
    check(size > 0, "there is nothing")
    check(keys.vouched, "it names another key, or you gave that of another trail, or one that was lost since")
    if kept_path:
        signed = is_signed(f"{origin}\n{kept_size}\n{kept_root}\n", kept_by, keys.at(kept_size))
        check(signed, "The checkpoint that you gave is not signed with the trail's key of its time", Unusable)
    if (kept_size, kept_root) in keys.abandoned:
        kept_size = 0
    check(size >= kept_size, f"it ends after {size} events, and the checkpoint that you kept has {kept_size}")
    check(kept_fits or not kept_size, f"the first {kept_size} events are not those of the checkpoint that you kept")
    for event in archived.check(keys):
        beside += values_of(database, event, are_kept)
    for sequence, name, is_there in beside:
        what = "is there again, and was erased" if is_there else "is gone, and no statement says that it was erased"
        check(is_there != keys.has_erased(sequence, name), f"the value {name} of the event {sequence} {what}")
    check_tables(database, size, are_kept)
    return size, kept_size, keys.remarks


def check_tables(database, size, are_kept):
    """What no walk over the chain finds."""
    query = "SELECT count(*) FROM audit_private WHERE NOT (sequence >= 0 AND sequence < ?)"
    beyond = database.execute(query, (size,)).fetchone()[0] if are_kept else 0
    check(not beyond, "there are values beside the records that belong to no event")
    query = "SELECT event_id FROM audit_events"
    if has_table(database, "audit_archived"):
        query += " UNION SELECT event_id FROM audit_archived"
    (different,) = database.execute(f"SELECT count(DISTINCT event_id) FROM ({query})").fetchone()
    check(different == size, "an event is there twice")


def say(size, kept, remarks):
    cut_off = (
        f"The first {kept:,} are those of your checkpoint; whether later ones were" if kept else "Whether the end was"
    )
    print(f"{size:,} events fit. {cut_off} cut off only a {'newer' if kept else 'kept'} checkpoint can tell.")
    for remark in remarks:
        print(remark)


if __name__ == "__main__":
    if len(sys.argv) not in {3, 4, 5} or sys.argv[2].count("+") < 2:
        print(
            "Usage: verify_without_us.py FILE VERIFIER_KEY [CHECKPOINT_FILE] [FOLDER OF ARCHIVES] (the key itself)",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        say(*verify(*sys.argv[1:]))
    except Unusable as error:
        print(f"{error}.", file=sys.stderr)
        sys.exit(2)
    except sqlite3.DatabaseError as error:
        print(f"This file cannot be read as a trail: {error}.", file=sys.stderr)
        sys.exit(2)
    except (Wrong, InvalidSignature, ValueError, TypeError, KeyError, EOFError, gzip.BadGzipFile) as error:
        sys.exit(f"This trail was tampered with: {str(error) or 'a signature does not verify'}.")
