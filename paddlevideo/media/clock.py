"""The clock of a file's video, for its audio."""

from contextlib import closing
from fractions import Fraction

from paddlevideo.media.containers import (
    PyAVReader,
    decode_from_start,
    discard_others,
    first_video,
    list_video_streams,
    open_container,
    video_streams,
)
from paddlevideo.media.packets import Stretch, make_table, stretch_starts
from paddlevideo.media.sources import list_packets


def read_stretches(path: str) -> list[Stretch]:
    """Return the stretches of the first video of a file; none where there is no video.

    They are those of `PyAVReader`. Where time stamps only rise, one frame is decoded at most.
    """
    with open_container(path) as container:
        stream = first_video(path, list_video_streams(container))
        if stream is None:
            return []
        start = Fraction(stream.start_time or 0) * (stream.time_base or 0)
        unknown = [Stretch(0, start, Fraction(0))]
        if stream.codec_context is None:
            return unknown
        container_format, index, goes_back = container.format.name, stream.index, False
        time_base = stream.time_base  # a frame that a decoder held back to the end has none
        if "mp4" not in container_format:  # whose time stamps always rise
            discard_others(container, stream)
            packets = list_packets(path, container, stream)
            goes_back = len(stretch_starts(container_format, packets)) > 1
            table = make_table(container_format, stream.codec_context.name, packets)
            if table is not None:
                return [Stretch(0, int(table.shown[0]) * stream.time_base, Fraction(0))]
    if not goes_back:
        with closing(decode_from_start(path, index, one_thread=True)) as frames:
            first = next(frames, None)
        if first is not None and first.pts is not None:
            return [Stretch(0, first.pts * time_base, Fraction(0))]
        if first is None or container_format == "avi":  # which stores no time stamps
            return unknown
    with open_container(path) as container:
        video_streams(container)
        return PyAVReader(path, container, container.streams[index]).stretches
