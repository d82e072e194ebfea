"""A real S3 server on the loopback: reading, listing, storing, and what may be wrong."""

import os

import numpy as np
import pytest

from paddlevideo.remote import (
    AccessError,
    MissingError,
    RemoteError,
    UrlFile,
    access,
    exists,
    glob_url,
    is_folder,
    list_url,
    local_copy,
    local_folder,
    open_url,
    read_bytes,
    written,
)
from paddlevideo.remote.block_cache import BLOCK

BODY = np.random.default_rng(0).bytes(5 * BLOCK)


@pytest.fixture
def s3(s3):
    s3.put("d/a b.bin", BODY)
    s3.put("d/x/目录/c%20+&=.txt", "text")
    return s3


def test_reading(s3):
    file = UrlFile(f"{s3.url}/d/a b.bin")
    file.seek(3 * BLOCK - 1)
    assert file.read(1) == BODY[3 * BLOCK - 1 :][:1] and file.num_fetched == BLOCK
    assert read_bytes(file.url) == BODY
    assert local_copy(f"{s3.url}/d/x/目录/c%20+&=.txt").read_text() == "text"


def test_parts_of_two_versions_are_not_mixed(s3):
    file = UrlFile(f"{s3.url}/d/a b.bin")
    assert file.read(9) == BODY[:9]
    s3.put("d/a b.bin", BODY[::-1])
    file.seek(4 * BLOCK)
    with pytest.raises(RemoteError, match="d/a b.bin: it was replaced while it was read"):
        file.read(9)
    assert read_bytes(file.url) == BODY[::-1]


def test_listing(s3):
    urls = [f"{s3.url}/d/a b.bin", f"{s3.url}/d/x/目录/c%20+&=.txt"]
    assert list_url(f"{s3.url}/d") == urls and list_url(s3.url) == urls
    assert glob_url(f"{s3.url}/d/*.bin") == urls[:1] and glob_url(f"{s3.url}/**/c*") == urls[1:]
    assert is_folder(f"{s3.url}/d") and not is_folder(urls[0]) and not exists(f"{s3.url}/no")
    assert (local_folder(f"{s3.url}/d") / "a b.bin").read_bytes() == BODY


def test_storing(s3):
    url = f"{s3.url}/out/r.json"
    for text in ("one", "two"):
        with written(url) as path:
            path.write_text(text)
        assert s3.get("out/r.json").decode() == text and read_bytes(url).decode() == text
    with pytest.raises(MissingError, match="s3://none/r.json: "), written("s3://none/r.json") as p:
        p.write_text("x")


def test_missing_files_and_buckets(s3):
    with pytest.raises(MissingError, match=f"{s3.url}/no.bin: no such file"):
        open_url(f"{s3.url}/no.bin")
    for function in (open_url, list_url, local_folder, local_copy):
        with pytest.raises(MissingError, match="s3://none/a: no such"):
            function("s3://none/a")


def test_without_credentials(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(access, "_state", access._Process())
    text = "no credentials: .*; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY .*AWS_ENDPOINT_URL"
    with pytest.raises(AccessError, match=text):
        exists(f"{s3.url}/d/a b.bin")


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_wrong_credentials(s3, monkeypatch, code):
    from botocore.exceptions import ClientError

    found, _ = access.file_system(s3.url)

    async def refused(*args, **kwargs):
        raise PermissionError("Forbidden")

    async def refused_with_reason(*args, **kwargs):
        raise PermissionError("it is wrong") from ClientError({"Error": {"Code": code}}, "Get")

    monkeypatch.setattr(found, "_info", refused)
    monkeypatch.setattr(found, "_cat_file", refused_with_reason)
    with pytest.raises(AccessError, match=rf"wrong credentials \({code}\): it is wrong; set AWS_"):
        exists(f"{s3.url}/d/a b.bin")


def test_an_endpoint_that_does_not_answer(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(access, "_state", access._Process())
    with pytest.raises(OSError, match="no answer, or the connection broke"):
        exists(f"{s3.url}/d/a b.bin")
    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
