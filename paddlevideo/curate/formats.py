"""Identify the container format of a file from its first bytes, and detect truncated files."""

import os
from typing import BinaryIO

from paddlevideo.remote import open_url

HEAD_BYTES = 512  # how much of a file identifies its format

ISO = "MP4 or QuickTime"
MATROSKA = "Matroska or WebM"
# Container format -> the suffixes that fit it.
SUFFIXES = {
    "AVI": (".avi",),
    ISO: (".3gp", ".m4v", ".mov", ".mp4"),
    MATROSKA: (".mkv", ".webm"),
    "FLV": (".flv",),
    "MPEG-TS": (".m2ts", ".mpeg", ".mpg", ".mts", ".ts"),
    "MPEG": (".mpeg", ".mpg", ".vob"),
    "ASF": (".asf", ".wmv"),
    "Ogg": (".ogv",),
}
# Types of the top-level boxes of an MP4 or QuickTime file.
BOX_TYPES = frozenset(b"ftyp moov mdat free skip wide moof mfra sidx styp uuid pdin".split())
IMAGE_BRANDS = (b"avif", b"heic", b"heix", b"mif1")
RIFF_TYPES = {b"AVI ": ("AVI", ""), b"WAVE": ("", "audio (WAV)"), b"WEBP": ("", "an image (WebP)")}
VIDEO_MAGIC = (
    (b"\x1a\x45\xdf\xa3", MATROSKA),
    (b"FLV\x01", "FLV"),
    (b"\x00\x00\x01\xba", "MPEG"),
    (b"\x00\x00\x01\xb3", "MPEG"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
    (b"OggS", "Ogg"),
    (b"GIF8", "GIF"),
)
OTHER_MAGIC = (
    (b"\x89PNG", "an image (PNG)"),
    (b"\xff\xd8\xff", "an image (JPEG)"),
    (b"BM", "an image (BMP)"),
    (b"ID3", "audio (MP3)"),
    (b"fLaC", "audio (FLAC)"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
)
# (offset of the first packet, packet size) of MPEG-TS, without and with a time code before each.
TS_PACKETS = ((0, 188), (4, 192))
# A WAV file that announces more than this (bytes) does not know its length.
MAX_WAV_BYTES = 0x7FFF0000
TS_SYNC = 0x47  # first byte of each MPEG-TS packet


def identify_format(head: bytes) -> tuple[str, str]:
    """Identify a file from its first bytes.

    Args:
        head: the first HEAD_BYTES bytes of the file, or all of a shorter file.

    Returns:
        (container format, what the file is instead of a video). At most one of them is not "".
    """
    if head[4:8] in BOX_TYPES:
        is_image = head[4:8] == b"ftyp" and head[8:12] in IMAGE_BRANDS
        return ("", "an image (HEIF or AVIF)") if is_image else (ISO, "")
    if head[:4] == b"RIFF" and head[8:12] in RIFF_TYPES:
        return RIFF_TYPES[head[8:12]]
    for magic, container_format in VIDEO_MAGIC:
        if head.startswith(magic):
            return container_format, ""
    for offset, size in TS_PACKETS:
        starts = [offset + number * size for number in range(3)]
        if len(head) > starts[-1] and all(head[start] == TS_SYNC for start in starts):
            return "MPEG-TS", ""
    for magic, description in OTHER_MAGIC:
        if head.startswith(magic):
            return "", description
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "", "a web page (HTML), perhaps the error page of a failed download"
    if text.startswith(b"version https://git-lfs"):
        return "", "a Git LFS pointer; download the video itself with `git lfs pull`"
    return "", ""


def missing_bytes(path: str, container_format: str) -> int:
    """Count the bytes that the container announces beyond the end of the file.

    Returns:
        0 where the file is complete, and where its format does not announce a size.
    """
    with open_url(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if container_format == "AVI":
            length = int.from_bytes(file.read(8)[4:8], "little")
            # A recorder that was interrupted or could not seek leaves 0 or all ones.
            return max(0, length + 8 - size) if 0 < length < 0xFFFFFFFF else 0
        if container_format == "WAV":
            length = int.from_bytes(file.read(8)[4:8], "little")
            # Programs that write to a pipe state 0, or one of the largest numbers.
            return max(0, length + 8 - size) if 0 < length < MAX_WAV_BYTES else 0
        if container_format == "MPEG-TS":
            packet_size = 188 if file.read(1)[:1] == bytes([TS_SYNC]) else 192
            return -size % packet_size
        if container_format == ISO:
            return max(0, end_of_boxes(file, size) - size)
        if container_format == MATROSKA:
            return missing_in_matroska(file, size)
    return 0


def end_of_boxes(file: BinaryIO, size: int) -> int:
    """Return the byte offset at which the last top-level box of an MP4 file ends.

    Stops at anything that is not a known box, such as the padding that some cameras append.
    """
    offset = 0
    while offset < size:
        file.seek(offset)
        head = file.read(16)
        length, box_type = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if box_type not in BOX_TYPES or length < 8:
            return offset
        offset += length
    return offset


def missing_in_matroska(file: BinaryIO, size: int) -> int:
    """Count the bytes that the segment of a Matroska file announces beyond the end of the file."""
    file.seek(4)
    header_length = read_ebml_size(file)
    if header_length is None:
        return 0
    file.seek(header_length, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = read_ebml_size(file)
    return 0 if length is None else max(0, file.tell() + length - size)


def read_ebml_size(file: BinaryIO) -> int | None:
    """Read a variable-length size of EBML (RFC 8794, section 6); None where unknown or absent."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0xFF >> width)]) + file.read(width - 1), "big")
    is_unknown = value == (1 << 7 * width) - 1
    return None if is_unknown else value
