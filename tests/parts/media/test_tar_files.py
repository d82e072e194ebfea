"""Files inside tar shards: errors that concern all files of a server."""

import contextlib
import io

import pytest

from paddlevideo.media.sources import kept_errors
from paddlevideo.media.tar_files import Window, check_header
from paddlevideo.remote import AccessError
from paddlevideo.tar_paths import TarPath


class Refused(io.BytesIO):
    """A shard whose server does not accept the credentials any more."""

    def read(self, size=-1):
        raise AccessError("s3://b/a.tar: wrong credentials (ExpiredToken)")


def test_an_error_that_ffmpeg_takes_for_the_end_is_raised():
    window = Window(Refused(bytes(99)), 0, 99, "a.mp4")
    with (
        pytest.raises(AccessError, match="ExpiredToken"),
        kept_errors(window),
        contextlib.suppress(AccessError),
    ):
        window.read(5)


def test_credentials_are_no_damage_of_a_shard():
    with pytest.raises(AccessError, match="ExpiredToken"):
        check_header(Refused(bytes(9999)), TarPath("s3://b/a.tar", 512, 9, "v.mp4"))
