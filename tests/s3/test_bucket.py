"""What is written to a bucket with Object Lock stays, whatever somebody does to it afterwards."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from audit_core import AuditTrail
from audit_core.anchors import ask
from audit_core.anchors.anchoring import keep_now
from audit_core.anchors.opening import open_anchor
from audit_core.chain.known import Answer, Kept
from audit_core.cli import main
from audit_core.errors import ConfigurationError, ConflictError, StoreUnavailableError
from audit_core.s3 import open_bucket, years_later
from audit_core.stores.memory import MemoryStore
from audit_core.testing import make_chain, make_event, seal
from tests.s3.server import client, new_place


@pytest.fixture
def place():
    """A bucket of ours and a prefix in it, with one object."""
    bucket, prefix = open_bucket(new_place())
    bucket.put_new(f"{prefix}one", b"first")
    return bucket, prefix


def only(bucket, prefix):
    (versions,) = bucket.objects(prefix)
    return versions


def test_an_object_is_locked_for_seven_years(place):
    bucket, prefix = place
    found = bucket.read(only(bucket, prefix))
    assert (found.body, found.is_locked) == (b"first", True)
    assert found.retain_until - datetime.now(UTC) > timedelta(days=7 * 365)


def test_nobody_can_remove_it_or_shorten_that(place):
    bucket, prefix = place
    (version,) = only(bucket, prefix)
    which = {"Bucket": bucket.name, "Key": version.key, "VersionId": version.id}
    with pytest.raises(ClientError, match="AccessDenied"):
        client().delete_object(**which, BypassGovernanceRetention=True)
    soon = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(hours=1)}
    with pytest.raises(ClientError, match="AccessDenied"):
        client().put_object_retention(**which, Retention=soon)


def test_a_later_version_and_a_delete_marker_change_nothing(place):
    bucket, prefix = place
    until = datetime.now(UTC) + timedelta(days=9_999)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    client().put_object(Bucket=bucket.name, Key=f"{prefix}one", Body=b"second", **lock)
    client().delete_object(Bucket=bucket.name, Key=f"{prefix}one")
    assert bucket.read(only(bucket, prefix)).body == b"first"
    assert sorted(version.is_marker for version in only(bucket, prefix)) == [False, False, True]


@pytest.mark.parametrize("hours", [0, 1])
def test_a_version_that_lay_there_before_without_a_lock_that_lasts_does_not_count(place, hours):
    bucket, prefix = place
    until = datetime.now(UTC) + timedelta(hours=hours)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until} if hours else {}
    client().put_object(Bucket=bucket.name, Key=f"{prefix}two", Body=b"slipped in", **lock)
    client().delete_object(Bucket=bucket.name, Key=f"{prefix}two")
    bucket.put_new(f"{prefix}two", b"ours")
    (versions,) = bucket.objects(f"{prefix}two")
    assert bucket.read(versions).body == b"ours"


def test_two_writers_at_one_place_are_told_apart(place):
    bucket, prefix = place
    with pytest.raises(ConflictError):
        bucket.put_new(f"{prefix}one", b"other")
    bucket.put_new(f"{prefix}one", b"first")  # whose answer was lost
    assert len(only(bucket, prefix)) == 1


def test_objects_come_in_order_and_from_any_key_on(place):
    bucket, prefix = place
    for name in ("three", "two"):
        bucket.put_new(prefix + name, b"x")
    keys = [versions[0].key.removeprefix(prefix) for versions in bucket.objects(prefix)]
    assert keys == ["one", "three", "two"]
    after = [versions[0].key.removeprefix(prefix) for versions in bucket.objects(prefix, f"{prefix}one")]
    assert after == ["three", "two"]


def test_a_bucket_without_object_lock_is_refused_with_what_it_lacks():
    bucket, _ = open_bucket(new_place(lock=False))
    with pytest.raises(ConfigurationError, match="lacks versioning and Object Lock"):
        bucket.check()


def test_a_bucket_that_there_is_not_and_a_server_that_is_down_are_told(place):
    endpoint, _ = place[0]._where
    with pytest.raises(ConfigurationError, match="There is no bucket"):
        open_bucket(f"s3://not-there/?endpoint={endpoint}")[0].check()
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        open_bucket("s3://not-there/?endpoint=http://127.0.0.1:1")[0].check()


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3://b/x?colour=red",
        "s3://b/x?retention_years=long",
        "s3://b/?retention_years=0",
        "s3://b/?retention_years=9000",
        "s3://b/?endpoint=minio:9000",
        "s3://b/?endpoint=",
    ],
)
def test_a_wrong_url_says_what_is_one(url):
    with pytest.raises(ConfigurationError, match=r"A bucket's URL is|number of years|http or https address"):
        open_bucket(url)


@pytest.mark.parametrize(
    ("day", "years", "later"),
    [
        ("2026-01-31", 7, "2033-01-31"),
        ("2028-02-29", 7, "2035-03-01"),
        ("2028-02-29", 4, "2032-02-29"),
        ("2096-02-29", 4, "2100-03-01"),
    ],
)
def test_years_are_never_too_short_by_a_leap_day(day, years, later):
    moment = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    assert years_later(moment, years).date().isoformat() == later


def test_a_checkpoint_without_a_lock_vouches_for_nothing_and_others_do_all_the_same():
    chain = make_chain(MemoryStore())
    seal(chain, [make_event()])
    anchor = open_anchor(new_place())
    note = chain.checkpoint_note()
    assert [state.trouble for state in keep_now(chain, [anchor])] == [None]
    forged = f"{anchor._prefix}{9:020d}-{'0' * 16}.checkpoint"
    client().put_object(Bucket=anchor._bucket.name, Key=forged, Body=note.encode())
    answer = ask(anchor, chain)
    assert [kept.what for kept in answer.kept] == [note]
    assert "without a lock" in answer.trouble


@pytest.fixture
def many():
    """A chain with five checkpoints in a bucket, and an anchor that has read none of them."""
    chain, url = make_chain(MemoryStore()), new_place()
    for n in range(5):
        seal(chain, [make_event(n)])
        assert [state.trouble for state in keep_now(chain, [open_anchor(url)])] == [None]
    return chain, url


def gets_of(anchor, ask_for):
    """How many objects are fetched."""
    asked = []
    events = anchor._bucket._client.meta.events
    events.register("before-call.s3.GetObject", lambda params, **_: asked.append(params["url_path"]), unique_id="gets")
    answer = ask_for(anchor)
    events.unregister("before-call.s3.GetObject", unique_id="gets")
    return len(asked), [kept.size for kept in answer.kept]


def test_whoever_asks_for_the_newest_checkpoint_fetches_no_other(many):
    chain, url = many
    assert gets_of(open_anchor(url), lambda anchor: ask(anchor, chain, at_most=1)) == (1, [6])


def test_a_checkpoint_that_was_fetched_is_not_fetched_again_unless_somebody_wrote_over_it(many):
    chain, url = many
    anchor = open_anchor(url)
    everything = [6, 5, 4, 3, 2]
    assert gets_of(anchor, lambda anchor: ask(anchor, chain)) == (5, everything)
    seal(chain, [make_event(9)])
    keep_now(chain, [anchor])
    assert [state.trouble for state in keep_now(chain, [anchor])] == [None]
    assert gets_of(open_anchor(url), lambda anchor: ask(anchor, chain)) == (1, [7, *everything])
    versions = next(iter(anchor._bucket.objects(anchor._prefix)))
    client().put_object(Bucket=anchor._bucket.name, Key=versions[0].key, Body=b"another")
    assert gets_of(open_anchor(url), lambda anchor: ask(anchor, chain)) == (1, [7, *everything])


def test_status_fetches_the_newest_checkpoint_of_a_bucket_alone(tmp_path, state, capsys):
    trail, place = f"sqlite:///{tmp_path}/clinic.db", new_place()
    anchor = open_anchor(place)
    for _ in range(3):
        with AuditTrail(trail, anchors=[place]) as writing:
            writing.record("work.done")
            assert [one.trouble for one in writing.anchor_now()] == [None]
    assert len(list(anchor._bucket.objects(anchor._prefix))) >= 3

    def status(_):
        assert main(["status", "--json", "--url", trail, "--anchor", place]) == 0
        (found,) = json.loads(capsys.readouterr().out)["anchors"]
        return Answer(kept=[Kept("", None)] if found["size"] > 9 else [])

    assert gets_of(anchor, status) == (1, [0])
