"""An S3 server that keeps Object Lock, from a wheel; or one that is there already, by AUDIT_TEST_S3 (its endpoint)."""

import atexit
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testsecret", "AWS_DEFAULT_REGION": "us-east-1"}
ACTIONS = ["Admin", "Read", "Write", "List", "Tagging", "BypassGovernanceRetention"]
PORTS = ("-master.port", "-volume.port", "-filer.port", "-s3.port", "-s3.port.iceberg", "-s3.port.lance")
# Whatever ends this process, kill -9 as well, closes the pipe, and the server ends with it.
GUARD = """folder=$1 sockets=$2; shift 2; "$@" </dev/null >"$folder/log" 2>&1 &
cat; kill -9 $!; wait; rm -rf "$folder" $sockets"""
SOCKETS = Path("/tmp")  # noqa: S108 - where the server makes them, whatever TMPDIR says
GRPC = 10_000  # above each port there is another one
_numbers = itertools.count(1)


class Server:
    """One server in a folder of its own."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="audit-s3-"))
        credentials = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
        identity = {"name": "test", "credentials": [credentials], "actions": ACTIONS}
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        self.url = f"http://127.0.0.1:{ports['-s3.port']}"
        words = [f"{name}={port}" for name, port in ports.items()]
        words += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.folder}", "-filer", "-s3"]
        words += [f"-s3.config={self.folder}/s3.json", "-volume.max=100", "-master.volumeSizeLimitMB=64"]
        words += ["-master.telemetry=false"]
        sockets = [str(SOCKETS / f"seaweedfs-*-{n}.sock") for p in ports.values() for n in (p, p + GRPC)]
        weed = Path(sys.executable).with_name("weed")
        command = ["sh", "-c", GUARD, "guard", self.folder, " ".join(sockets), weed, "server", *words]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        atexit.register(self.stop)

    def wait(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                client(self.url).list_buckets()
            except (BotoCoreError, ClientError):
                assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2_000:]
                time.sleep(0.1)
            else:
                return

    def stop(self):
        """Stop it for good, and remove what it has made."""
        atexit.unregister(self.stop)
        self._guard.communicate()


def _free_ports(count):
    taken = []
    while len(taken) < count:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + GRPC if port < 55_000 else 0))
            except OSError:
                continue
            if port < 55_000 and port not in taken:
                taken.append(port)
    return taken


@cache
def shared():
    """The server that all tests of this process share."""
    os.environ.update(KEYS)
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    if url := os.environ.get("AUDIT_TEST_S3"):
        return url
    server = Server()
    server.wait()
    return server.url


def client(url=None):
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "testsecret", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=url or shared(), config=config, **keys)


@cache
def bucket(*, lock=True):
    """The name of a bucket that all tests of this process share; with Object Lock, or without."""
    name = f"test-{os.getpid()}-{'locked' if lock else 'plain'}"
    client().create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if lock else {}))
    return name


def new_place(*, lock=True):
    """The URL of a prefix in it, under which there is nothing yet."""
    return f"s3://{bucket(lock=lock)}/{next(_numbers)}/?endpoint={shared()}"
