"""The audio of the clips whose frames were sampled, for audio-visual networks; AVSlowFast's rules.

    spans = clip_spans(times, numbers, fps)     # seconds of each clip, from its first frame to the
                                                # end of its last
    audio = cut_log_mel(log_mel, 0, spans, ...) # the time steps of these spans
    start = misaligned_start(...)               # where another clip of the same video may begin,
                                                # as a hard negative

Audio and frames share one clock, seconds after the video's first frame. The time steps of a log-mel
spectrogram lie on a grid that begins at second 0, so a part of a file that is decoded alone gives
the same time steps as the complete file.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from paddlevideo.config.registry import register
from paddlevideo.media.clip import ReadWaveform
from paddlevideo.media.log_mel import LogMel, nearest_steps
from paddlevideo.media.waveform import Backend, NoAudioError, read_waveform
from paddlevideo.sample import InputSpec, Record, Sample

READ_TOGETHER = 10.0  # s between two clips up to which one read is cheaper than two
# Times are sums of rounded numbers. This offset (time steps) makes a clip that begins with a time
# step include it.
STEP_TOLERANCE = 1e-6


def clip_spans(
    times: np.ndarray, numbers: np.ndarray, fps: float, seconds: float | None = None
) -> np.ndarray:
    """Return when each clip begins and ends (seconds), float64 [C, 2].

    Args:
        times: of each frame of the video, float64 [num_frames].
        numbers: frame numbers of each clip, int64 [C, T].
        fps: frames per second, which gives the duration of the last frame.
        seconds: nominal length of a clip. It matters where a video is shorter than a clip: frames
            then repeat the last frame, and audio the last time step. None takes the length from
            the frame times.
    """
    starts = times[numbers[:, 0]]
    ends = times[numbers.max(axis=1)] + 1 / fps if seconds is None else starts + seconds
    return np.stack([starts, ends], axis=1)


def audio_span(start_sec: float, end_sec: float, feature: LogMel) -> tuple[float, float]:
    """Return the part of the waveform (seconds) from which every time step of a span is computed.

    It begins on the grid of time steps and ends with the last window.
    """
    step_sec = feature.hop_length / feature.sample_rate
    first_step = max(0, math.floor(start_sec / step_sec + STEP_TOLERANCE))
    return first_step * step_sec, end_sec + step_sec + feature.n_fft / feature.sample_rate


def cut_log_mel(
    log_mel: np.ndarray, first_step: int, spans: np.ndarray, feature: LogMel, num_steps: int = 128
) -> np.ndarray:
    """Return `num_steps` time steps for each clip: float32 [C, 1, num_steps, mel bins].

    Args:
        log_mel: float32 [L, mel bins].
        first_step: number of its first time step, counted from the video's first frame.
        spans: seconds, float64 [C, 2].
    """
    bounds = spans * feature.steps_per_sec - first_step + STEP_TOLERANCE
    clips = [nearest_steps(log_mel, start, end, num_steps) for start, end in bounds]
    return np.stack(clips)[:, None]


def misaligned_start(
    start: float, length: float, total: float, gap: float, rng: np.random.Generator
) -> float | None:
    """Draw where another clip of the same video begins, uniformly over the allowed starts.

    The clip ends before the video does. Where the video is too short for that, the clip runs past
    the end, where the last time step is repeated. (The reference allows every clip to run past the
    end.) One number is drawn in every case.

    Args:
        start, length: of the clip that was sampled.
        total: length of the video.
        gap: smallest distance between the two starts. All four are in one unit.

    Returns:
        None where the video is too short for another clip.
    """
    share = rng.random()
    before = max(0.0, start - gap)
    after = max(0.0, total - length - (start + gap))
    if before + after == 0:
        after = max(0.0, total - (start + gap))
    if before + after == 0:
        return None
    offset = share * (before + after)
    return offset if offset < before else start + gap + offset - before


@register("audio")
@dataclass(frozen=True)
class ClipAudio:
    """Adds to a sample the log-mel spectrogram of its clips, and for training that of a misaligned
    clip of the same video.

    Args:
        num_rows: time steps of a clip.
        misaligned: whether to add the misaligned clip, a hard negative; in training only.
        min_gap: time steps between the starts of the clip and the misaligned clip, at least.
        stream: which audio stream, counted from 0; None is the first.
        backend: pyav or soundfile, see `waveform.read_waveform`.
        missing_audio: what a clip without audio is: an error, or zeros (silence), which is counted
            and logged.
    """

    num_rows: int = 128
    misaligned: bool = False
    min_gap: int = 32
    stream: int | None = None
    backend: Backend = "pyav"
    missing_audio: Literal["error", "zeros"] = "error"

    feature: ClassVar[LogMel] = LogMel()

    def __post_init__(self):
        if self.num_rows < 1 or self.min_gap < 1:
            raise ValueError(
                f"ClipAudio: num_rows is {self.num_rows} and min_gap is {self.min_gap}, "
                "expected at least 1 each"
            )

    @property
    def outputs(self) -> dict[str, InputSpec]:
        """Model inputs that it adds, by name."""
        spec = InputSpec((None, 1, None, None), "float32", "N C T F")
        return {"audio": spec} | ({"audio_negative": spec} if self.misaligned else {})

    @property
    def random(self) -> bool:
        """Whether it draws from the generator."""
        return self.misaligned

    def silent(self, num_views: int) -> Sample:
        """Return the outputs for clips without audio: digital silence for each view."""
        silence = self._silence(num_views)
        return dict.fromkeys(self.outputs, silence if num_views > 1 else silence[0])

    def _silence(self, num_clips: int) -> np.ndarray:
        """Return the spectrogram of digital silence, float32 [num_clips, 1, num_rows, mel bins]."""
        one_step = self.feature(np.zeros(self.feature.n_fft, np.float32))
        return np.tile(one_step, (num_clips, 1, self.num_rows, 1))

    def __call__(
        self,
        record: Record,
        times: np.ndarray,
        numbers: np.ndarray,
        fps: float,
        rng: np.random.Generator,
        seconds: float | None = None,
        crops: int = 1,
        read: ReadWaveform | None = None,
    ) -> Sample:
        """Return the audio of the clips of one video.

        Args:
            times: of each frame (s after the first frame of the file), float64 [num_frames].
            numbers: frame numbers of each clip, int64 [C, T].
            fps: frames per second, above 0.
            seconds: nominal length of a clip, see `clip_spans`.
            crops: views that are cut from each clip; they share its audio.
            read: reads the audio of a clip in memory; None reads the file of the record.

        Returns:
            audio: float32 [1, num_rows, mel bins], or [C * crops, 1, num_rows, mel bins] where
                C * crops is more than one.
            audio_negative: with `misaligned`, the same for the misaligned clip. Where the video is
                too short for another clip it equals `audio`; the model, which forms the pairs,
                decides which of them it trains on.
            missing_audio: bool, whether a clip has no audio and gets silence.

        Raises:
            NoAudioError: the file has no audio, or its audio ends before a clip begins, and
                `missing_audio` is error.
            DecodeError: the audio is damaged.
        """
        spans = clip_spans(times, numbers, fps, seconds)
        negative_spans = None
        if self.misaligned:
            negative_spans = self._misaligned_spans(
                spans, float(times[0]), float(times[-1] + 1 / fps), rng
            )
        read = read or self._reader(record.path)
        audio, has_audio, reason = self._read(read, spans)
        if not has_audio.all() and self.missing_audio == "error":
            raise NoAudioError(f"{reason}; missing_audio: zeros uses silence instead")
        sample: Sample = {
            "audio": np.repeat(audio, crops, axis=0),
            "missing_audio": np.bool_(not has_audio.all()),
        }
        if self.misaligned:
            negative = audio
            if negative_spans is not None and has_audio.any():
                negative, _, _ = self._read(read, negative_spans)
            sample["audio_negative"] = np.repeat(negative, crops, axis=0)
        if len(sample["audio"]) == 1:
            sample |= {name: sample[name][0] for name in self.outputs}
        return sample

    def _misaligned_spans(
        self, spans: np.ndarray, first_sec: float, last_sec: float, rng: np.random.Generator
    ) -> np.ndarray | None:
        """Draw a misaligned span for each clip; None where the video is too short."""
        gap, total = self.min_gap / self.feature.steps_per_sec, last_sec - first_sec
        starts = [
            misaligned_start(start - first_sec, end - start, total, gap, rng)
            for start, end in spans
        ]
        if None in starts:
            return None
        begins = first_sec + np.array(starts, np.float64)
        return np.stack([begins, begins + spans[:, 1] - spans[:, 0]], axis=1)

    def _reader(self, path: str) -> ReadWaveform:
        """Read the waveform of a file."""

        def read(sample_rate: int, start_sec: float, end_sec: float, backend: Backend):
            return read_waveform(path, sample_rate, start_sec, end_sec, self.stream, backend)

        return read

    def _read(self, read: ReadWaveform, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        """Read the audio of several spans (s) of a file; nearby spans are decoded in one go.

        Returns:
            log-mel float32 [C, 1, num_rows, mel bins], silence where a clip has no audio;
            bool [C], which clips have audio; and the reason why others have none, "" if all have.
        """
        audio = self._silence(len(spans))
        has_audio, reason = np.zeros(len(spans), bool), ""
        order = np.argsort(spans[:, 0], kind="stable")
        is_far = np.diff(spans[order, 0]) > READ_TOGETHER
        for group in np.split(order, np.flatnonzero(is_far) + 1):
            first_sec, last_sec = spans[group, 0].min(), spans[group, 1].max()
            start, end = audio_span(first_sec, last_sec, self.feature)
            try:
                wave = read(self.feature.sample_rate, start, end, self.backend)
            except NoAudioError as error:
                reason = str(error)
                continue
            audio_end = start + len(wave) / self.feature.sample_rate
            has_audio[group] = spans[group, 0] < audio_end
            if not has_audio[group].all():
                clip_start = spans[group, 0].max()
                reason = f"a clip begins at {clip_start:.3f} s, the audio ends at {audio_end:.3f} s"
            kept = group[has_audio[group]]
            if not len(kept):  # the audio ends within the time step in which the first clip begins
                continue
            first_step = round(start * self.feature.steps_per_sec)
            audio[kept] = cut_log_mel(
                self.feature(wave), first_step, spans[kept], self.feature, self.num_rows
            )
        return audio, has_audio, reason
