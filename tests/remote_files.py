"""Remote files for tests: in memory, and servers on the loopback."""

import contextlib
import itertools
import logging
from collections.abc import Iterator

import pytest

from paddlevideo.remote import access

numbers = itertools.count()
ACCOUNT = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


class MemoryFiles:
    """A folder of `memory://` that no other test uses.

    Attributes:
        url: of the folder.
    """

    def __init__(self):
        fsspec = pytest.importorskip("fsspec")
        self.files = fsspec.filesystem("memory")
        self.url = f"memory://test-{next(numbers)}"

    def put(self, name: str, content: bytes | str) -> str:
        """Store a file; returns its URL."""
        data = content.encode() if isinstance(content, str) else content
        self.files.pipe(f"{self.url}/{name}", data)
        return f"{self.url}/{name}"

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.files.rm(self.url, recursive=True)


@contextlib.contextmanager
def memory_files() -> Iterator[MemoryFiles]:
    files = MemoryFiles()
    try:
        yield files
    finally:
        files.remove()


class S3Files:
    """A new bucket of moto's S3 server on the loopback.

    Attributes:
        url: of the bucket.
        endpoint: address of the server.
    """

    def __init__(self, endpoint: str):
        import boto3

        self.endpoint, self.bucket = endpoint, f"videos-{next(numbers)}"
        self.url = f"s3://{self.bucket}"
        with pytest.MonkeyPatch.context() as patch:
            without_user(patch)
            self.client = boto3.client(
                "s3", endpoint_url=endpoint, region_name="us-east-1", **ACCOUNT
            )
        self.client.create_bucket(Bucket=self.bucket)

    def put(self, name: str, content: bytes | str) -> str:
        """Store a file; returns its URL."""
        data = content.encode() if isinstance(content, str) else content
        self.client.put_object(Bucket=self.bucket, Key=name, Body=data)
        return f"{self.url}/{name}"

    def get(self, name: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read()


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's S3 server; yields its address."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        started.stop()


def without_user(patch: pytest.MonkeyPatch) -> None:
    """Leave out the user's own settings of AWS."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        patch.delenv(name, raising=False)


def use_s3(files: S3Files, patch: pytest.MonkeyPatch) -> None:
    """Let the environment name the server, and open connections of this test's own."""
    without_user(patch)
    for name, value in ACCOUNT.items():
        patch.setenv(name.upper(), value)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", files.endpoint)
    patch.setattr(access, "_state", access._Process())
