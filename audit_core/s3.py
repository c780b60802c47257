"""A bucket of S3 with Object Lock: what is written there can neither be changed nor removed before its time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.util import find_spec
from itertools import chain, groupby
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from audit_core.errors import ConfigurationError, ConflictError, StoreUnavailableError
from audit_core.extras import lacking

RETENTION_YEARS = 7  # HIPAA asks for 6, SOX for 7
LONGEST_YEARS = 100  # what S3 takes
SHORTEST_LOCK = timedelta(days=364)  # that counts: of a year, of which two clocks may take a day
TIMEOUT_SECONDS = 10
ATTEMPTS = 3
_OPTIONS = {"endpoint", "region", "retention_years"}
_ADDRESS = re.compile(r"https?://[^\s/?#]+(?:/[^\s?#]*)?")
_EXISTS = {"PreconditionFailed", "412"}
_MISSING = {"NoSuchBucket", "404"}
_NO_LOCK = {"ObjectLockConfigurationNotFoundError"}


class Version(NamedTuple):
    """One version of an object, or a delete marker."""

    key: str
    id: str
    modified: datetime
    is_marker: bool


class Locked(NamedTuple):
    """The version of an object that counts: the first one that was locked."""

    id: str
    body: bytes
    modified: datetime
    is_locked: bool  # in COMPLIANCE mode, for a year at least: not even the account's owner can change that
    retain_until: datetime | None  # in that mode, for however long


class Bucket:
    """Writes each object once, and reads what was written first.

    An attacker who may write to the bucket can add versions and delete markers, which change nothing here. One who owns
    the account can delete it as a whole.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        retention_years: int = RETENTION_YEARS,
    ) -> None:
        """Credentials are those that boto3 finds. Raises ConfigurationError."""
        if not 1 <= retention_years <= LONGEST_YEARS:
            raise ConfigurationError(
                f"retention_years is a number of years from 1 to {LONGEST_YEARS}, not {retention_years}."
            )
        if endpoint is not None and not _ADDRESS.fullmatch(endpoint):
            raise ConfigurationError(f"The endpoint of a bucket is an http or https address, not {endpoint!r}.")
        self.name, self._years, self._where = name, retention_years, (endpoint, region)
        _require_boto3()

    @property
    def _client(self) -> Any:
        """Never one of a parent process: two would read the answers of one connection."""
        return _client_of(os.getpid(), *self._where)

    def check(self) -> None:
        """Raises ConfigurationError for a bucket in which what is written could be removed, StoreUnavailableError."""
        with self._translated():
            versioning = self._client.get_bucket_versioning(Bucket=self.name).get("Status")
            lock = self._lock_configuration()
        missing = [] if versioning == "Enabled" else ["versioning"]
        missing += [] if lock == "Enabled" else ["Object Lock"]
        if missing:
            raise ConfigurationError(
                f"The bucket {self.name} lacks {' and '.join(missing)}: what is written there could be removed. Make a "
                "bucket with Object Lock (aws s3api create-bucket --object-lock-enabled-for-bucket)."
            )

    @property
    def place(self) -> str:
        """Which bucket it is: two servers may have one of the same name."""
        return f"{self._where[0] or 's3'}/{self.name}"

    def put_new(self, key: str, body: bytes) -> str:
        """Write an object that is not there yet, locked for years; the id of its version.

        Raises ConflictError when another one is there, StoreUnavailableError when nobody knows whether it was written:
        then the next try finds it.
        """
        try:
            with self._translated():
                put = self._client.put_object(
                    Bucket=self.name,
                    Key=key,
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",
                    ObjectLockMode="COMPLIANCE",
                    ObjectLockRetainUntilDate=years_later(datetime.now(UTC), self._years),
                )
        except ConflictError:
            # It may be ours: an answer that was lost is asked for again.
            there = next(iter(self.objects(key)), None)
            if there is None or (found := self.read(there)).body != body:
                raise
            return found.id
        return str(put["VersionId"])

    def remove(self, key: str) -> None:
        """Destroy every version of an object. Raises StoreUnavailableError while one of them is locked."""
        for version in [one for versions in self.objects(key) for one in versions if one.key == key]:
            with self._translated():
                self._client.delete_object(Bucket=self.name, Key=key, VersionId=version.id)

    def objects(self, prefix: str, before: str = "") -> Iterator[list[Version]]:
        """The versions of each object, the oldest first, in the order of keys; of keys that come after ``before``."""
        for _, versions in groupby(self._versions(prefix, before), key=lambda version: version.key):
            yield [*versions][::-1]

    def read(self, versions: Iterable[Version]) -> Locked:
        """The version that counts. Raises StoreUnavailableError."""
        found: Locked | None = None
        for version in versions:
            if version.is_marker:
                continue
            with self._translated():
                got = self._client.get_object(Bucket=self.name, Key=version.key, VersionId=version.id)
                until = got.get("ObjectLockRetainUntilDate") if got.get("ObjectLockMode") == "COMPLIANCE" else None
                is_locked = _lasts(version.modified, until)
                if is_locked or found is None:
                    found = Locked(version.id, got["Body"].read(), version.modified, is_locked, until)
            if is_locked:
                break
        if found is None:
            raise StoreUnavailableError(f"The bucket {self.name} has nothing but a delete marker where an object was.")
        return found

    def _versions(self, prefix: str, before: str) -> Iterator[Version]:
        options = {"KeyMarker": before} if before else {}
        with self._translated():
            pages = iter(
                self._client.get_paginator("list_object_versions").paginate(Bucket=self.name, Prefix=prefix, **options)
            )
        while True:
            with self._translated():
                page = next(pages, None)
            if page is None:
                return
            yield from sorted(_of_page(page), key=lambda version: version.key)

    def _lock_configuration(self) -> str | None:
        from botocore.exceptions import ClientError

        try:
            answer = self._client.get_object_lock_configuration(Bucket=self.name)
        except ClientError as error:
            if error.response["Error"]["Code"] in _NO_LOCK:
                return None
            raise
        return str(answer["ObjectLockConfiguration"].get("ObjectLockEnabled"))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Give boto3's errors one sentence with the cure."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except NoCredentialsError as error:
            raise ConfigurationError(
                f"There are no credentials for the bucket {self.name}: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or give the machine a role."
            ) from error
        except ClientError as error:
            raise self._explained(error.response["Error"]) from error
        except (BotoCoreError, OSError) as error:
            raise StoreUnavailableError(f"The bucket {self.name} cannot be reached: {error}.") from error

    def _explained(self, error: Any) -> Exception:
        code = str(error.get("Code"))
        if code in _EXISTS:
            return ConflictError(f"The bucket {self.name} has another object there already.")
        if code in _MISSING:
            return ConfigurationError(f"There is no bucket {self.name}: correct the URL, or make it, with Object Lock.")
        return StoreUnavailableError(f"The bucket {self.name} refuses ({code}: {error.get('Message')}).")


def open_bucket(url: str) -> tuple[Bucket, str]:
    """The bucket and the prefix of ``s3://bucket/prefix?endpoint=...&region=...&retention_years=7``.

    Nothing is asked yet. Raises ConfigurationError.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not parts.netloc or (unknown := options.keys() - _OPTIONS):
        wrong = f", and not {min(unknown)}" if parts.netloc else ""
        raise ConfigurationError(
            f"A bucket's URL is s3://bucket/prefix, with the options {', '.join(sorted(_OPTIONS))}{wrong}."
        )
    years = options.get("retention_years", str(RETENTION_YEARS))
    if not years.isdecimal():
        raise ConfigurationError(f"retention_years is a number of years, not {years!r}.")
    bucket = Bucket(
        parts.netloc,
        endpoint=options.get("endpoint"),
        region=options.get("region"),
        retention_years=int(years),
    )
    prefix = unquote(parts.path).strip("/")
    return bucket, f"{prefix}/" if prefix else ""


def years_later(moment: datetime, years: int) -> datetime:
    """The same day ``years`` later; of a leap day that there is not, the day after: never too short."""
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:
        return moment.replace(year=moment.year + years, month=3, day=1)


def _lasts(since: datetime, until: datetime | None) -> bool:
    """Whether a lock was made to last: what is free in a minute can be exchanged then by whoever wrote it."""
    return until is not None and until - since >= SHORTEST_LOCK


def _of_page(page: Any) -> Iterator[Version]:
    """Versions and markers, of each key the newest first: S3 lists the two apart."""
    listed = chain(
        ((one, False) for one in page.get("Versions", ())), ((one, True) for one in page.get("DeleteMarkers", ()))
    )
    for one, is_marker in listed:
        yield Version(one["Key"], one["VersionId"], one["LastModified"], is_marker)


def _require_boto3() -> None:
    if find_spec("boto3") is None:
        raise ConfigurationError(lacking("S3", "boto3", "s3"))


@lru_cache(maxsize=8)
def _client_of(process: int, endpoint: str | None, region: str | None) -> Any:
    """One of boto3's clients, which threads can share; to make one takes a tenth of a second."""
    import boto3
    from botocore.config import Config

    del process
    config = Config(
        connect_timeout=TIMEOUT_SECONDS,
        read_timeout=TIMEOUT_SECONDS,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        # A server at a place of its own has no name for each bucket.
        s3={"addressing_style": "path"} if endpoint else {},
    )
    return boto3.session.Session().client("s3", endpoint_url=endpoint, region_name=region, config=config)
