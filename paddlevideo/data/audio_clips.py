"""The sound of the very clip whose frames were picked, for networks that see and hear; AVSlowFast's rules.

    spans = clip_spans(times, numbers, fps)            # seconds of each clip, from its first frame to the end of its last
    audio = cut_steps(rows, spans, ...)                 # log-mel rows of just that time
    other = misaligned_start(...)                      # where another clip of the same video may begin: a hard negative

Sound and frames meet on one clock, seconds after the video's first frame. Rows lie on a grid that begins there, so a part of a
file that is decoded alone gives the rows of the whole.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.media.log_mel import LogMel, nearest_steps
from paddlevideo.media.waveform import Backend, NoAudioError, read_waveform
from paddlevideo.sample import InputSpec, Record, Sample

READ_TOGETHER = 10.0  # s between two spans up to which one read is cheaper than two


def clip_spans(
    times: np.ndarray, numbers: np.ndarray, fps: float, seconds: float | None = None
) -> np.ndarray:
    """When each clip begins and ends (seconds), float64 [C, 2].

    Args:
        times: of each frame of the video, float64 [num_frames].
        numbers: frames of each clip, int64 [C, T].
        fps: frames per second, for how long the last frame is shown.
        seconds: the length that a clip is meant to have. It counts where a video is shorter than a clip, whose last frame is
            then repeated: its last row is, too. None takes the frames' own times.
    """
    starts = times[numbers[:, 0]]
    ends = times[numbers.max(axis=1)] + 1 / fps if seconds is None else starts + seconds
    return np.stack([starts, ends], axis=1)


def needed(start_sec: float, end_sec: float, feature: LogMel) -> tuple[float, float]:
    """The part of a sound (seconds) that has all the rows of a span: from a row's beginning to the end of a window."""
    grid = feature.hop_length / feature.sample_rate
    first_row = max(0, math.floor(start_sec / grid + 1e-6))
    return first_row * grid, end_sec + grid + feature.n_fft / feature.sample_rate


def cut_steps(
    rows: np.ndarray, first_row: int, spans: np.ndarray, feature: LogMel, num_rows: int = 128
) -> np.ndarray:
    """Rows of each clip: float32 [C, 1, num_rows, mels].

    Args:
        rows: float32 [L, mels].
        first_row: number of the first of them, counted from the video's first frame.
        spans: seconds, float64 [C, 2].
    """
    places = spans * feature.steps_per_sec - first_row
    # Times are sums of rounded numbers; a clip that begins with a row is meant to have it.
    return np.stack(
        [nearest_steps(rows, start + 1e-6, end + 1e-6, num_rows) for start, end in places]
    )[:, None]


def misaligned_start(
    start: float, length: float, total: float, gap: float, rng: np.random.Generator
) -> float | None:
    """Where a clip of the same video begins that is at least `gap` away: uniform over where it may; all in one unit.

    It ends before the video does where the video is long enough for that, and else runs past the end, where the last row is
    repeated. (The reference lets any of them run past the end.)

    Returns:
        None where the video is too short for another clip; one number is drawn in any case.
    """
    share = rng.random()
    before = max(0.0, start - gap)
    after = max(0.0, total - length - (start + gap))
    if before + after == 0:
        after = max(0.0, total - (start + gap))
    if before + after == 0:
        return None
    place = share * (before + after)
    return place if place < before else start + gap + place - before


@register("audio")
@dataclass(frozen=True)
class ClipAudio:
    """Gives a sample the log-mel rows of its clips, and for training a misaligned clip of the same video.

    Args:
        num_rows: of a clip.
        misaligned: whether to make the hard negative, too; in training only.
        min_gap: rows that its beginning is away from the clip's.
        stream: which audio stream, counted from 0; None is the first.
        backend: pyav or soundfile, see `waveform.read_waveform`.
        missing_audio: what a clip without sound is: an error, or zeros (silence), which is counted and logged.
    """

    num_rows: int = 128
    misaligned: bool = False
    min_gap: int = 32
    stream: int | None = None
    backend: Backend = "pyav"
    missing_audio: Literal["error", "zeros"] = "error"

    feature: ClassVar[LogMel] = LogMel()

    @property
    def outputs(self) -> dict[str, InputSpec]:
        """What it gives to a model, by name."""
        sound = InputSpec((None, 1, None, None), "float32", "N C T F")
        return {"audio": sound} | ({"audio_negative": sound} if self.misaligned else {})

    def silent(self, num_views: int) -> Sample:
        """What stands for sound where there is none: digital silence for each view."""
        silence = self.feature(np.zeros(self.feature.n_fft, np.float32))
        rows = np.tile(silence, (num_views, 1, self.num_rows, 1))
        return dict.fromkeys(self.outputs, rows if num_views > 1 else rows[0])

    def __post_init__(self):
        if self.num_rows < 1 or self.min_gap < 1:
            raise ValueError(
                f"ClipAudio: num_rows is {self.num_rows} and min_gap is {self.min_gap}, expected at least 1 each"
            )

    @property
    def random(self) -> bool:
        """Whether it draws from the generator."""
        return self.misaligned

    def __call__(
        self,
        record: Record,
        times: np.ndarray,
        numbers: np.ndarray,
        fps: float,
        rng: np.random.Generator,
        seconds: float | None = None,
        crops: int = 1,
    ) -> Sample:
        """The sound of the clips of one video.

        Args:
            times: of each of its frames (s after the first frame of the file), float64 [num_frames].
            numbers: frames of each clip, int64 [C, T].
            fps: frames per second, above 0.
            seconds: as in `clip_spans`.
            crops: views that are cut from each clip; they hear the same.

        Returns:
            audio: float32 [1, num_rows, mels], or [C * crops, 1, num_rows, mels] where that is more than one.
            audio_negative: with `misaligned`, the same of the misaligned clip; of the clip itself where the video is too short
                for another. Which pairs can teach is for the model to say, which puts them together.
            missing_audio: bool, whether a clip has no sound; it has silence then.

        Raises:
            NoAudioError: the file has no sound, or ends to sound before a clip, and `missing_audio` is error.
            DecodeError: it is damaged.
        """
        spans = clip_spans(times, numbers, fps, seconds)
        other = (
            self._other(spans, float(times[0]), float(times[-1] + 1 / fps), rng)
            if self.misaligned
            else None
        )
        audio, heard, why = self._read(record.path, spans)
        if not heard.all() and self.missing_audio == "error":
            raise NoAudioError(f"{why}; missing_audio: zeros would take silence in its place")
        sample: Sample = {
            "audio": np.repeat(audio, crops, axis=0),
            "missing_audio": np.bool_(not heard.all()),
        }
        if self.misaligned:
            negative = (
                self._read(record.path, other)[0] if other is not None and heard.any() else audio
            )
            sample["audio_negative"] = np.repeat(negative, crops, axis=0)
        if len(sample["audio"]) == 1:
            sample |= {name: sample[name][0] for name in self.outputs}
        return sample

    def _other(
        self, spans: np.ndarray, first_sec: float, last_sec: float, rng
    ) -> np.ndarray | None:
        """Spans of a misaligned clip for each clip, None where the video is too short."""
        gap, total = self.min_gap / self.feature.steps_per_sec, last_sec - first_sec
        starts = [
            misaligned_start(start - first_sec, end - start, total, gap, rng)
            for start, end in spans
        ]
        if None in starts:
            return None
        begins = first_sec + np.array(starts, np.float64)
        return np.stack([begins, begins + spans[:, 1] - spans[:, 0]], axis=1)

    def _read(self, path: str, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        """(rows of clips of a file, which clips have a sound, why others have none); those without one are silence.

        Clips that lie near one another are decoded in one go.
        """
        silence = self.feature(np.zeros(self.feature.n_fft, np.float32))
        out = np.tile(silence, (len(spans), 1, self.num_rows, 1))
        heard, why = np.zeros(len(spans), bool), ""
        order = np.argsort(spans[:, 0], kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(spans[order, 0]) > READ_TOGETHER) + 1):
            start, end = needed(spans[group, 0].min(), spans[group, 1].max(), self.feature)
            try:
                wave = read_waveform(
                    path, self.feature.sample_rate, start, end, self.stream, self.backend
                )
            except NoAudioError as error:
                why = str(error)
                continue
            end = start + len(wave) / self.feature.sample_rate
            heard[group] = spans[group, 0] < end
            why = (
                why
                if heard[group].all()
                else f"a clip begins at {spans[group, 0].max():.3f} s, the sound ends at {end:.3f} s"
            )
            kept = group[heard[group]]
            first_row = round(start * self.feature.steps_per_sec)
            out[kept] = cut_steps(
                self.feature(wave), first_row, spans[kept], self.feature, self.num_rows
            )
        return out, heard, why
