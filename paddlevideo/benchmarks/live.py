"""A live source in real time: how late are the results, and does memory grow?

A thread sends a synthetic video through a pipe as a camera does: each frame at its time, as an MPEG
transport stream. The timeline reads the pipe as predict does with standard input. A latency is the
time from when the first frame of a window was due to the result of the window, so it includes the
window itself.
"""

import argparse
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from paddlevideo.benchmarks.clips import write_clip
from paddlevideo.benchmarks.exported import model_of
from paddlevideo.benchmarks.measure import Group, Row
from paddlevideo.media.packets import demux
from paddlevideo.predict.predictor import Predictor
from paddlevideo.timelines.live import LiveSource
from paddlevideo.timelines.live_inputs import LiveInput, Pipe
from paddlevideo.timelines.windows import TimelineModel

ALLOWED = 0.3  # s above the window that 95 % of the results may take
NUM_FRAMES = 250  # of the video, which is sent again and again
WARM_UP = 3  # first windows, while the runtime allocates its memory


@dataclass(frozen=True)
class LiveGroup(Group):
    """The latencies of a run; the row has one time per window.

    Args:
        lines: the text of the result.
    """

    lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The result as lines."""
        return "\n".join([self.title, *(f"  {line}" for line in self.lines)])


def groups(args: argparse.Namespace, folder: Path) -> Iterator[Group]:
    """The group of tools/benchmark.py live."""
    predictor = Predictor(model_of(args, folder), backend=args.backend, threads=args.threads)
    model = TimelineModel(predictor, args.window, args.stride or args.window / 2)
    path = folder / "camera.mp4"
    # A camera sends frames in their order; one with B frames would send some before their time.
    write_clip(path, tuple(args.size), NUM_FRAMES, args.gop, seed=0, b_frames=0)
    yield run(model, path, args.seconds)


def run(model: TimelineModel, path: Path, seconds: float) -> Group:
    """Score a video that is sent in real time, again and again.

    Args:
        seconds: how long it is sent.

    Raises:
        ValueError: that is too short for a window after the first ones.
    """
    reading, writing = os.pipe()
    camera = Camera(path, writing, seconds)
    source = LiveInput("camera", lambda *wait: Pipe(reading, *wait), reconnects=False)
    latencies, memory = [], []
    try:
        with LiveSource(source) as live, closing(model.windows(live, live=True)) as windows:
            camera.thread.start()
            for window in windows:
                latencies.append(time.monotonic() - camera.started - window.start)
                memory.append(resident_mb())
            dropped = live.dropped
    finally:
        camera.stop.set()
        os.close(reading)
        if camera.thread.ident:
            camera.thread.join()
    kept, memory = latencies[WARM_UP:-1], memory[WARM_UP:-1]  # the last one may be shorter
    if not kept:
        raise ValueError(
            f"--seconds {seconds:g}: too short for {WARM_UP + 2} windows; give a longer time"
        )
    return result(model, kept, dropped, camera.sent, memory)


def result(
    model: TimelineModel, latencies: list[float], dropped: int, sent: int, memory: list[float]
) -> LiveGroup:
    """The group of latencies (s) and of the memory after each window (MB)."""
    middle, late, most = (float(n) for n in np.percentile(latencies, (50, 95, 100)))
    limit = model.window + ALLOWED
    lines = [
        f"latency {middle:.3f} s (median), {late:.3f} s (95 %), {most:.3f} s (largest) "
        f"of {len(latencies)} windows",
        f"{'below' if late < limit else 'NOT below'} the window and {ALLOWED * 1000:.0f} ms "
        f"({limit:.3f} s) in 95 % of them",
        f"{dropped} of {sent} frames dropped",
        f"memory {memory[0]:.0f} MB after the first windows, {memory[-1]:.0f} MB at the end",
    ]
    row = Row("latency", latencies, middle, 1 / max(middle, 1e-9), 1.0, 1.0, 1.0, " ".join(lines))
    title = (
        f"live, {model.predictor.backend.name}, windows of {model.window:g} s every "
        f"{model.stride:g} s"
    )
    return LiveGroup(title, "window", 1, [row], lines)


class Camera:
    """Sends the frames of a video to a pipe, each at its time, and closes it at the end.

    Args:
        descriptor: of the pipe.
        seconds: how long; the video is repeated.

    Attributes:
        started: when the first frame was sent (seconds of `time.monotonic`).
        sent: number of frames.
        stop: ends it early.
    """

    def __init__(self, path: Path, descriptor: int, seconds: float):
        self._path, self._descriptor, self._seconds = path, descriptor, seconds
        self.started, self.sent, self.stop = 0.0, 0, threading.Event()
        self.thread = threading.Thread(target=self._send, name="camera", daemon=True)

    def _send(self) -> None:
        with (
            suppress(OSError, av.error.FFmpegError),  # the reader has ended
            open(self._descriptor, "wb", buffering=0) as file,
            av.open(file, "w", format="mpegts", options={"flush_packets": "1"}) as out,
        ):
            self._send_all(out)

    def _send_all(self, out: Any) -> None:
        stream, begin = None, 0.0
        while begin < self._seconds:
            with av.open(str(self._path)) as container:
                video = container.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                length = float(video.duration * video.time_base)
                for packet in demux(container, video):
                    if packet.dts is None:
                        continue
                    due = begin + float((packet.dts - (video.start_time or 0)) * video.time_base)
                    if not self._wait(due) or due >= self._seconds:
                        return
                    shift = round(begin / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    out.mux(packet)
                    self.sent += 1
            begin += length

    def _wait(self, due: float) -> bool:
        """Wait until a time of the video; returns whether to go on."""
        self.started = self.started or time.monotonic() - due
        return not self.stop.wait(max(0.0, self.started + due - time.monotonic()))


def resident_mb() -> float:
    """The memory of this process now (MB); 0 where the system does not say it."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0.0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
