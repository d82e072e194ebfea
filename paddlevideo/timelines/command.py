"""The predict command with --window: parsed flags -> timelines that are printed and written."""

import difflib
import itertools
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tqdm import tqdm

from paddlevideo import log, paddle_internals
from paddlevideo.engine.stop import StopSignal
from paddlevideo.files import check_writable
from paddlevideo.log import LINES, logger, plural
from paddlevideo.plain_text import readable
from paddlevideo.predict.command import open_predictor, output_path
from paddlevideo.predict.predictor import Predictor
from paddlevideo.sample import DecodeError, Record
from paddlevideo.tar_paths import tar_path
from paddlevideo.timelines.annotated import annotate_file, check_target
from paddlevideo.timelines.page import clock
from paddlevideo.timelines.segments import MIN_SCORE, Segment, window_segment
from paddlevideo.timelines.timeline import Timeline
from paddlevideo.timelines.writers import (
    SUBTITLES,
    TimelineWriter,
    check_timeline_suffix,
    segment_lines,
    timeline_file,
)
from paddlevideo.urls import is_url, path_name, shown

# Flags that have no meaning for timelines, and why.
NOT_FOR_TIMELINES = {
    "resume": "a timeline is written again from its beginning",
    "modalities": "a timeline has the scores of all modalities together",
    "save_path": "it writes PaddleX's results of complete videos",
    "features": "timelines are for models of frames or audio",
    "batch_size": "as many windows as suit the device are scored together",
    "decode_workers": "a timeline is decoded in one go, while the network runs",
    "verbose": "it prints results of complete videos",
}

MAX_LISTED = 10_000  # names of a folder that are compared with that of a missing file


def run_command(args: Namespace, ignored: Mapping[str, str]) -> int:
    """Print the segments of each input as soon as they are closed, and write them to a file.

    Ctrl-C and SIGTERM end it after the next window; what is closed until then is written.

    Args:
        args: see commands/predict.py.
        ignored: {flag: why it has no effect}, for the flags that were given.

    Returns:
        the number of inputs without a complete timeline.

    Raises:
        ValueError, OSError: a flag, the model or the inputs are wrong; nothing was scored.
        KeyboardInterrupt: it was stopped by a signal.
    """
    with log.session(), paddle_internals.keep_num_threads():
        for flag, reason in ignored.items():
            logger.warning(f"--{flag} has no effect: {reason}")
        check_flags(args)
        out, video = check_output(args), check_annotate(args)
        predictor = open_predictor(args)
        timeline = timeline_of(predictor, args)
        inputs = predictor.find(args.input_file)
        if args.shard:
            inputs = inputs.shard(*args.shard)
        records = [whole_file(record) for record, _ in inputs]
        videos = annotated_paths(video, records, args.overwrite)
        failed = []
        with open_files(out, records, args.overwrite) as writer_of, StopSignal(1) as stop:
            for record, annotated in zip(records, videos, strict=True):
                if line := show(record, timeline, writer_of, args, stop, annotated):
                    failed.append(line)
                if stop.asked:
                    break
        if failed:
            lines = "\n".join([f"{len(failed)} of {len(records)} inputs failed:", *failed])
            logger.error(lines, extra=LINES)
    if stop.asked:
        raise KeyboardInterrupt
    return len(failed)


def timeline_of(predictor: Predictor, args: Namespace) -> Timeline:
    """The timeline that the flags describe.

    Raises:
        ValueError: a number is out of range, or the model takes frame features.
    """
    return Timeline(
        predictor,
        args.window,
        args.stride,
        MIN_SCORE if args.min_score is None else args.min_score,
        args.min_duration or 0.0,
        args.topk,
        args.raw_windows,
        args.exact_stride,
    )


def check_flags(args: Namespace) -> None:
    """
    Raises:
        ValueError: a flag has no meaning with --window, or two flags contradict each other.
    """
    for flag, reason in NOT_FOR_TIMELINES.items():
        if vars(args)[flag]:
            raise ValueError(f"--{flag} does not go with --window: {reason}; leave it out")
    for flag in ("min_score", "min_duration"):
        if args.raw_windows and vars(args)[flag] is not None:
            raise ValueError(
                f"--raw_windows writes all windows, and --{flag} selects segments; leave one of "
                "them out"
            )
    if args.quiet and not (args.out or args.annotate):
        raise ValueError("--quiet prints no segments; give --out FILE to write them")


def check_output(args: Namespace) -> Path | None:
    """The file for the timelines, checked before any work.

    Raises:
        ValueError: it has an unknown suffix, or exists.
        OSError: it cannot be written.
    """
    out = output_path(args)
    if out is None:
        if args.overwrite and not args.annotate:
            raise ValueError("--overwrite is for the file of --out; give --out FILE")
        return None
    check_timeline_suffix(out)
    check_free(out, args.overwrite)
    check_writable(out)
    return out


def check_annotate(args: Namespace) -> Path | None:
    """The annotated video, checked before any work.

    Raises:
        ValueError: it has an unknown suffix, or exists.
        OSError: it cannot be written.
    """
    if not args.annotate:
        return None
    path = check_target(args.annotate)
    check_free(path, args.overwrite, "--annotate")
    check_writable(path)
    return path


def check_free(path: Path, overwrite: bool, flag: str = "--out") -> None:
    """
    Raises:
        ValueError: the file exists and may not be replaced.
    """
    if path.exists() and not overwrite:
        raise ValueError(
            f"{flag} {path}: this file exists; replace it with --overwrite, or give another path"
        )


def whole_file(record: Record) -> Record:
    """The record, where it is a complete file.

    Raises:
        ValueError: it is a folder of frames, frames in memory, or a part of a video.
    """
    if record.frame_pattern:
        raise ValueError(
            f"{name_of(record)}: a folder of frames has no times, and a timeline needs them; "
            "make a video of it first: ffmpeg -framerate 25 -i img_%05d.jpg video.mp4"
        )
    if record.start_sec is not None or record.end_sec is not None:
        raise ValueError(
            f"{name_of(record)}: the table names a part of this video, and a timeline has all of "
            "it; give the file itself"
        )
    return record


@contextmanager
def open_files(
    out: Path | None, records: list[Record], overwrite: bool
) -> Iterator[Callable[[ExitStack, Record], TimelineWriter | None]]:
    """Yield a function that gives the writer for an input; it may end with the ExitStack.

    Several inputs share a file, except subtitles, of which each video has its own.
    """
    if out is None:
        yield lambda stack, record: None
    elif out.suffix.lower() in SUBTITLES and len(records) > 1:
        paths = dict(zip(map(id, records), subtitle_paths(out, records), strict=True))
        for path in paths.values():
            check_free(path, overwrite)
        yield lambda stack, record: stack.enter_context(timeline_file(paths[id(record)]))
        logger.info(
            f"{len(records)} files are in {out.parent}, the first is {paths[id(records[0])]}"
        )
    else:
        with timeline_file(out) as writer:
            yield lambda stack, record: writer
        logger.info(f"written: {out}, with the timelines of {plural(len(records), 'input')}")


def annotated_paths(
    video: Path | None, records: list[Record], overwrite: bool
) -> list[Path | None]:
    """The annotated video of each input; several have names as those of subtitles.

    Raises:
        ValueError: one exists and may not be replaced, or is an input.
    """
    if video is None:
        return [None] * len(records)
    paths = [video] if len(records) == 1 else subtitle_paths(video, records)
    inputs = {os.path.realpath(record.path) for record in records}
    for path in paths:
        check_free(path, overwrite, "--annotate")
        if os.path.realpath(path) in inputs:
            raise ValueError(
                f"--annotate {path}: it would replace an input of this command; give another path"
            )
    return list(paths)


def subtitle_paths(out: Path, records: list[Record]) -> list[Path]:
    """A file per input: `out.vtt` becomes `out.NAME.vtt`; the same name gets a number."""
    paths: dict[Path, None] = {}  # a set in order
    for record in records:
        name = Path(path_name(record.path)).stem
        path, number = out.with_name(f"{out.stem}.{name}{out.suffix}"), 1
        while path in paths:
            number += 1
            path = out.with_name(f"{out.stem}.{name}_{number}{out.suffix}")
        paths[path] = None
    return list(paths)


def name_of(record: Record) -> str:
    """An input for people, without what may be secret in an address."""
    return readable(shown(record.location))


def show(
    record: Record,
    timeline: Timeline,
    writer_of: Callable[[ExitStack, Record], TimelineWriter | None],
    args: Namespace,
    stop: StopSignal,
    video: Path | None = None,
) -> str:
    """Print and write the timeline of a file, and its annotated video.

    Args:
        stop: ends it after the next window.
        video: where the annotated video goes; None for none.

    Returns:
        why it is incomplete, "" if it is not.
    """
    start, count, error, end = time.perf_counter(), 0, None, 0.0
    results: list[Segment] = []  # on the frames of the annotated video
    with ExitStack() as stack:
        writer = writer_of(stack, record)
        if writer:
            writer.begin(record.location)
        say(name_of(record), args)
        try:
            source = timeline.open(record.path)
            bar = stack.enter_context(log.progress(total=round(source.seconds), label="timeline"))
            bar.unit = "s"

            def windows():
                nonlocal end
                for window in timeline.windows(source):
                    end = max(end, window.end)
                    bar.update(max(0, min(round(end), bar.total or 0) - bar.n))
                    if video:
                        results.append(window_segment(window, timeline.model.labels, timeline.topk))
                    yield window
                    if stop.asked:
                        return

            for segment in timeline.merged(windows()):
                count += 1
                if writer:
                    writer.write(segment)
                say(line_of(segment), args)
            if stop.asked:
                error = f"interrupted after {clock(end)}"
            elif video:
                error = annotate(record.path, video, results, timeline, stop)
        except KeyboardInterrupt:  # a second signal, while the network runs
            error = "interrupted"
        except DecodeError as failure:
            error = f"{failure}{missing_hint(record.path)}"
        if writer:
            writer.end(error)
    if error is not None:
        return f"  {name_of(record)}: {readable(error)}"
    _log_end(record, count, end, time.perf_counter() - start, args)
    return ""


def say(text: str, args: Namespace) -> None:
    """Print a line above the bar, at once."""
    if not args.quiet:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


def annotate(
    path: str, video: Path, results: list[Segment], timeline: Timeline, stop: StopSignal
) -> str | None:
    """Write the annotated video of a file, and return why there is none; None if there is."""
    needs = timeline.model.needs
    streams = (needs.video_stream, needs.audio_stream)
    try:
        annotate_file(path, video, results, streams=streams, should_stop=lambda: stop.asked)
    except KeyboardInterrupt:
        return f"interrupted; {video} was not written"
    except DecodeError as failure:
        return f"{video} was not written: {failure}"
    logger.info(f"annotated video: {video}")
    return None


def missing_hint(path: str) -> str:
    """What to do about a file that does not exist; "" where it does, or is not on this machine."""
    if is_url(path) or tar_path(path) or os.path.exists(path):
        return ""
    folder, name = os.path.split(path)
    if not os.path.isdir(folder or "."):
        return f"; there is no folder {folder}; check the path"
    with os.scandir(folder or ".") as entries:
        names = [entry.name for entry in itertools.islice(entries, MAX_LISTED)]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    if near:
        return f"; did you mean {os.path.join(folder, near[0])}?"
    return "; check the path: -i takes files, folders, globs, lists and live sources"


def line_of(segment: Segment) -> str:
    """A segment for people: `0:02.0 - 0:05.5  archery 0.99`."""
    span = f"{clock(segment.start):>9} - {clock(segment.end):>9}"
    return f"  {span}  {'  '.join(segment_lines(segment))}"


def _log_end(record: Record, count: int, end: float, seconds: float, args: Namespace) -> None:
    name, speed = name_of(record), end / max(seconds, 1e-9)
    logger.info(
        f"{name}: {plural(count, 'segment')}, {end:.1f} s of video in {seconds:.1f} s, "
        f"{speed:.3g} times real time"
    )
    if not count and not args.raw_windows:
        least = "--min_score"
        least += f" {MIN_SCORE if args.min_score is None else args.min_score:g}"
        least += f" for --min_duration {args.min_duration:g} s" if args.min_duration else ""
        logger.warning(
            f"{name}: no class reaches {least}; --raw_windows shows the scores of all windows"
        )
