"""What is a URL, and its parts."""

from pathlib import Path

import pytest

from paddlevideo.urls import (
    is_url,
    join_path,
    parent_path,
    path_name,
    path_suffix,
    shown,
    without_secrets,
)


@pytest.mark.parametrize(
    "path",
    ["s3://b/k", "http://h/x", "memory://a", "oss://b/目录/x.mp4", "S3://b/k", "hdfs://h:9/x"],
)
def test_urls(path):
    assert is_url(path)


@pytest.mark.parametrize(
    "path",
    ["a/b", "/a//b", "C:/x", "C://x", "s3:/b", "x s3://b/k", "://x", "s3://", "", Path("s3://b/k")],
)
def test_local_paths(path):
    assert not is_url(path)


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("s3://b/d", "x/a.mp4", "s3://b/d/x/a.mp4"),
        ("s3://b/d/", "./a b%.mp4", "s3://b/d/a b%.mp4"),
        ("s3://b/lists/a", "../../v/x.mp4", "s3://b/v/x.mp4"),
        ("s3://b/lists", "../../../x.mp4", "s3://b/x.mp4"),
        ("https://h/lists/", "../v/./x.mp4", "https://h/v/./x.mp4"),
        ("https://h/d?sig=1", "a b%.mp4", "https://h/d/a%20b%25.mp4"),
        ("s3://b/d", "gs://c/a.mp4", "gs://c/a.mp4"),
        ("s3://b/d", "/data/a.mp4", "/data/a.mp4"),
        ("videos", "s3://b/a.mp4", "s3://b/a.mp4"),
        ("videos", "a.mp4", "videos/a.mp4"),
        ("", "a.mp4", "a.mp4"),
    ],
)
def test_join(base, path, expected):
    assert join_path(base, path) == expected


@pytest.mark.parametrize(
    ("path", "parent", "name", "suffix"),
    [
        ("s3://b/d/a.MP4", "s3://b/d", "a.MP4", ".mp4"),
        ("s3://b/d?/a#1.mp4", "s3://b/d?", "a#1.mp4", ".mp4"),  # characters of a key
        ("https://u:p@h/d/a%20b.csv?X-Sig=1/2#x", "https://u:p@h/d", "a b.csv", ".csv"),
        ("videos/a.mp4", "videos", "a.mp4", ".mp4"),
        ("a", ".", "a", ""),
    ],
)
def test_parts(path, parent, name, suffix):
    assert (parent_path(path), path_name(path), path_suffix(path)) == (parent, name, suffix)


def test_secrets_are_not_shown():
    assert shown("https://user:word@h/a.mp4?X-Amz-Signature=9") == "https://h/a.mp4"
    assert shown("s3://key:word@b/a?b") == "s3://b/a?b"
    text = "403, message='no', url='https://user:word@h/a?X-Amz-Signature=9', (HTTP://h/b?c#d)"
    assert without_secrets(text) == "403, message='no', url='https://h/a', (HTTP://h/b)"
    assert without_secrets("s3://b/a?b: no answer") == "s3://b/a?b: no answer"
