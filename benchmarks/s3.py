"""What sealing into a bucket and verifying from it takes, on the server of the tests.

python -m benchmarks.s3 [--events 100000] [--batch 10000]
"""

import argparse
import tempfile
import time
from pathlib import Path

from audit_core.s3 import open_bucket
from audit_core.stores.s3 import S3AuditStore
from audit_core.testing import make_chain, make_event, seal
from tests.s3.server import new_place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bucket, prefix = open_bucket(new_place())
        store = S3AuditStore(bucket, prefix, mirror=Path(folder) / "mirror.db")
        chain = make_chain(store)
        details = {"changes": {"diagnosis": {"old": "J06.9", "new": "J20.9"}}, "ward": "north"}
        batches = [
            [
                make_event(n, actor_id="42", resource_type="patient", resource_id=str(n), details=details)
                for n in range(s)
            ]
            for s in [options.batch] * (options.events // options.batch)
        ]
        began = time.perf_counter()
        for batch in batches:
            seal(chain, batch)
        print(f"sealed    {options.events / (time.perf_counter() - began):>10,.0f} events/s")
        began = time.perf_counter()
        found = chain.verify()
        print(
            f"verified  {found.size / (time.perf_counter() - began):>10,.0f} events/s, {len(found.findings)} findings"
        )
        size = sum(len(bucket.read(versions).body) for versions in bucket.objects(prefix))
        print(f"in the bucket {size / found.size:,.0f} bytes an event")
        store.close()
        other = S3AuditStore(bucket, prefix, mirror=Path(folder) / "other.db")
        began = time.perf_counter()
        other.extent()
        print(f"mirrored  {found.size / (time.perf_counter() - began):>10,.0f} events/s")
        other.close()


if __name__ == "__main__":
    main()
