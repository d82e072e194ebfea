"""The predict command with a live source: parsed flags -> segments that are printed at once."""

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from paddlevideo import log, paddle_internals
from paddlevideo.engine.stop import StopSignal
from paddlevideo.log import logger
from paddlevideo.predict.command import open_predictor
from paddlevideo.timelines.annotated import AnnotatedVideo, NoFrameError, annotated_video
from paddlevideo.timelines.command import (
    check_annotate,
    check_flags,
    check_output,
    line_of,
    say,
    timeline_of,
)
from paddlevideo.timelines.frames import Item
from paddlevideo.timelines.live import RETRY_SECONDS, STALL_SECONDS, LiveSource
from paddlevideo.timelines.live_inputs import LiveInput, live_input
from paddlevideo.timelines.overlay import Overlay
from paddlevideo.timelines.segments import Segment, window_segment
from paddlevideo.timelines.timeline import Timeline
from paddlevideo.timelines.windows import Window
from paddlevideo.timelines.writers import TimelineWriter, timeline_file

WINDOW = 2.0  # seconds, by default


def run_command(args: Namespace, ignored: Mapping[str, str]) -> int:
    """Print the segments of a live source as soon as they are closed, and write them to a file.

    It ends with the source, or at Ctrl-C or SIGTERM; what is open is closed and written then.

    Args:
        args: see commands/predict.py.
        ignored: {flag: why it has no effect}, for the flags that were given.

    Returns:
        1 if the source was lost, else 0.

    Raises:
        ValueError, OSError: a flag, the model or the source is wrong.
    """
    with log.session(), paddle_internals.keep_num_threads():
        for flag, reason in ignored.items():
            logger.warning(f"--{flag} has no effect: {reason}")
        if args.shard:
            raise ValueError("--shard is for files; a live source is one")
        args.window = WINDOW if args.window is None else args.window
        check_flags(args)
        out, annotate = check_output(args), check_annotate(args)
        source = live_input(args.input_file[0], args.follow, args.raw, args.rtsp_transport or "tcp")
        timeline = timeline_of(open_predictor(args), args)
        with StopSignal(1) as stop, ExitStack() as stack:
            live = stack.enter_context(open_source(source, timeline, args, stop))
            writer = stack.enter_context(timeline_file(out, live=True)) if out else None
            video = stack.enter_context(open_video(annotate, timeline)) if annotate else None
            run = LiveRun(source.name, live, timeline, video)
            show(run, writer, args)
        run.log_end()
        if stop.asked:
            logger.info("stopped by a signal")
        for path in filter(None, (out, annotate if video and video.num_frames else None)):
            logger.info(f"written: {path}")
    return 1 if live.failure else 0


def open_source(
    source: LiveInput, timeline: Timeline, args: Namespace, stop: StopSignal
) -> LiveSource:
    """The live source with what the model and the annotated video need."""
    needs = timeline.model.needs
    return LiveSource(
        source,
        frames=needs.frames or bool(args.annotate),
        sound=needs.audio or bool(args.annotate),
        stall=STALL_SECONDS if args.stall is None else args.stall,
        retry=RETRY_SECONDS if args.reconnect is None else args.reconnect,
        should_stop=lambda: stop.asked,
        video_stream=needs.video_stream,
        audio_stream=needs.audio_stream,
    )


@contextmanager
def open_video(path: Path, timeline: Timeline) -> Iterator[AnnotatedVideo]:
    """Yield the annotated video. Where the run is stopped before the first frame, there is none."""
    overlay = Overlay(timeline.model.labels or ())
    try:
        with annotated_video(path, overlay, sound=True) as video:
            yield video
    except NoFrameError as error:
        logger.warning(str(error))


@dataclass
class LiveRun:
    """The segments of a live source, with their latency.

    Args:
        name: of the source, for people.
        video: takes the items and the results of the windows, where a video is annotated.

    Attributes:
        latencies: of all windows with scores (s).
    """

    name: str
    live: LiveSource
    timeline: Timeline
    video: AnnotatedVideo | None = None
    latencies: list[float] = field(default_factory=list)

    def segments(self) -> Iterator[Segment]:
        """Each segment as soon as it is closed."""
        for segment in self.timeline.merged(self._windows()):
            yield replace(segment, latency=self.latencies[-1] if self.latencies else None)

    def _windows(self) -> Iterator[Window]:
        model = self.timeline.model
        for window in model.windows(self._items(), live=True):
            latency = self.live.latency(window.start) if window.scores is not None else None
            if latency is not None:
                self.latencies.append(latency)
            if self.video:
                shown = window_segment(window, model.labels, self.timeline.topk)
                self.video.overlay.add(shown)
            yield window

    def _items(self) -> Iterable[Item]:
        for item in self.live:
            if self.video:
                self.video.add(item)
            yield item

    def log_end(self) -> None:
        """Log how late the results were, and how many frames were left out."""
        text = f"{self.name}: {len(self.latencies)} windows"
        if self.latencies:
            middle, late = np.percentile(self.latencies, (50, 95))
            text += f", latency {middle:.2f} s (median), {late:.2f} s (95 %)"
        logger.info(f"{text}, {dropped_text(self.live.dropped)}")


def dropped_text(count: int) -> str:
    """Say how many frames were left out because the network was too slow."""
    return f"{count} frame{'' if count == 1 else 's'} dropped"


def show(run: LiveRun, writer: TimelineWriter | None, args: Namespace) -> None:
    """Print and write the segments of a live source to its end."""
    if writer:
        writer.begin(run.name)
    say(run.name, args)
    dropped = 0
    for segment in run.segments():
        if writer:
            writer.write(segment)
        late = "" if segment.latency is None else f"  latency {segment.latency:.2f} s"
        new, dropped = run.live.dropped - dropped, run.live.dropped
        late += f", {dropped_text(new)}" if new else ""
        say(f"{line_of(segment)}{late}", args)
    if writer:
        writer.end(run.live.failure or None)
