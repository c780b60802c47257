"""The contract of stores, fulfilled by a bucket with Object Lock."""

from audit_core.s3 import open_bucket
from audit_core.stores.s3 import S3AuditStore
from audit_core.testing import StoreContract
from tests.s3.server import new_place


class TestS3AuditStore(StoreContract):
    def make_store(self, path):
        bucket, prefix = open_bucket(new_place())
        return S3AuditStore(bucket, prefix, mirror=path / "mirror.db")
