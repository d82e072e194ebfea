"""The recognizer of frames and audio, and the mismatched audio of its synchronization loss."""

from typing import Annotated

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlevideo.config.registry import Kind, register
from paddlevideo.losses import synchronisation_loss
from paddlevideo.models.base import Recognizer
from paddlevideo.models.recognizer import pathway_problems

MIN_VARIANCE = 0.01  # of a log-mel clip that is not silent
MAX_COSINE = 0.99999  # between two log-mel clips that can be distinguished
SYNC_INPUTS = ("audio_negative", "epoch")


@register("framework")
class AudioVisualRecognizer(Recognizer):
    """A network over clips with audio, which may also learn whether frames and audio match.

    A clip without audio (see `has_audio`) is classified by its frames alone: nothing of the audio
    pathway reaches its logits. A clip whose frames are all zero is classified by its audio alone.
    A program therefore scores one modality when the inputs of the other are zero; `keep_only` does
    this for the names in `modalities`.

    Training with `audio_negative` also computes embeddings for `losses.synchronisation_loss`. The
    negative audio follows a curriculum: easy negatives come from other clips of the batch; from
    `hard_from_epoch` on, some are hard negatives, which come from the same video.

    Args:
        backbone: clips and audio by name -> (features, embeddings).
        head: features -> logits [N, K].
        sync_weight: weight of each synchronization loss relative to the classification loss.
        label_weight: weight of the classification loss; 0 trains without labels.
        sync_margin: distance, at most 1, beyond which negative audio adds no loss.
        hard_from_epoch: first epoch with hard negatives, from 0.
        hard_share: share of hard negatives in a batch from then on.
        train_backbone: False freezes the backbone, batch norms included, and trains the head alone
            (linear probe).

    Raises:
        ValueError: a weight, a share or the margin is out of range.
    """

    view_average = "probabilities"
    modalities = {"visual": ("slow", "fast"), "audio": ("audio",)}  # noqa: RUF012

    def __init__(
        self,
        backbone: Annotated[nn.Layer, Kind("backbone")],
        head: Annotated[nn.Layer, Kind("head", supplied=("num_classes",))],
        sync_weight: float = 1.0,
        label_weight: float = 1.0,
        sync_margin: float = 0.99,
        hard_from_epoch: int = 96,
        hard_share: float = 0.25,
        train_backbone: bool = True,
    ):
        if not 0 <= hard_share <= 1:
            raise ValueError(f"MODEL: hard_share is {hard_share}; it must be in [0, 1]")
        if min(sync_weight, label_weight) < 0 or not 0 < sync_margin <= 1:
            raise ValueError(
                f"MODEL: sync_weight is {sync_weight}, label_weight {label_weight}, sync_margin "
                f"{sync_margin}; expected weights of at least 0 and a margin in (0, 1], where 1 is "
                "the largest distance"
            )
        super().__init__(backbone, head)
        self.sync_weight, self.label_weight = sync_weight, label_weight
        self.sync_margin = sync_margin
        self.hard_from_epoch, self.hard_share = hard_from_epoch, hard_share
        self.train_backbone = train_backbone
        if not train_backbone:
            for parameter in backbone.parameters():
                parameter.stop_gradient = True

    @property
    def train_inputs(self) -> tuple[str, ...]:
        return (*self.inputs, *(SYNC_INPUTS if self.trains_sync else ()))

    @property
    def trains_sync(self) -> bool:
        """Whether training has a synchronization loss."""
        return bool(self.train_backbone and self.sync_weight and self.backbone.avs_stages)

    @property
    def sync_stages(self) -> tuple[str, ...]:
        """Stages whose visual and audio embeddings `embed` returns: ("s3", "s4", "s5")."""
        return tuple(f"s{number}" for number in self.backbone.avs_stages)

    @property
    def audio_alpha(self) -> int:
        """Time steps of audio per frame of the slow pathway."""
        return self.backbone.audio_alpha

    def problems_with(self, sample, training=False):
        problems = super().problems_with(sample, training)
        if not problems:
            slow, steps = np.shape(sample["slow"])[-3], np.shape(sample["audio"])[-2]
            if steps != self.audio_alpha * slow:
                problems.append(
                    f"the model's audio_alpha is {self.audio_alpha}, the pipeline gives {steps} "
                    f"time steps of audio and {slow} slow frames; "
                    f"set num_rows: {self.audio_alpha * slow} in its audio"
                )
            problems += pathway_problems(self, sample)
        if training and self.trains_sync and "audio_negative" not in sample:
            problems.append(
                "the model learns which audio belongs to a clip, for which it takes "
                "'audio_negative'; set misaligned: True in PIPELINE.train.audio, or "
                "MODEL.sync_weight: 0 to learn from labels alone"
            )
        return problems

    def forward(self, inputs):
        """Clips and audio -> logits [N, K]; in evaluation log-probabilities, as in `Recognizer3D`.

        Args:
            inputs: by the names of `inputs`. In training, the embeddings also need
                `audio_negative` float32 [N, 1, T, F], audio of the same video at another time, and
                `epoch`, from 0. A video without audio at another time repeats the clip's own audio,
                and the pair does not count.

        Returns:
            in evaluation logits; in training (logits, embeddings), see `AVSlowFast.forward`. The
            embeddings are empty without `audio_negative`.

        Raises:
            ValueError: an input is missing, or its shape does not fit.
        """
        if not self.train_backbone:
            self.backbone.eval()  # model.train() switches it to training mode
        clips = {name: inputs[name] for name in inputs if name in self.inputs}
        if self.training and self.train_backbone and "audio_negative" in inputs:
            clips |= self._negatives(inputs)
        features, embeddings = self.backbone(clips)
        logits = self.head(features)
        return (logits, embeddings) if self.training else logits

    def losses(self, outputs, batch):
        """The classification loss plus the synchronization loss of each stage, weighted.

        Args:
            outputs: (logits, embeddings) of training mode.
            batch: see `Recognizer.losses`.
        """
        logits, embeddings = outputs
        values = super().losses(logits, batch)
        if not embeddings:
            return values
        sync = {
            f"sync_{stage}": synchronisation_loss(*parts, margin=self.sync_margin)
            for stage, parts in embeddings.items()
        }
        loss = self.label_weight * values["loss"] + self.sync_weight * sum(sync.values())
        return {**values, "loss": loss, "label_loss": values["loss"], **sync}

    def predictions(self, outputs):
        return outputs[0] if self.training else outputs

    def embed(self, inputs):
        """Visual and audio embeddings of each clip, neither influenced by the other modality.

        Args:
            inputs: by the names of `inputs`.

        Returns:
            ({"s3": (visual, audio), ...}, present): float32 [N, D] of length 1 each, and float32
            [N, 1], 0 where a clip has no audio.
        """
        audio = inputs["audio"]
        # The backbone never adds negative audio to the frames, so the audio is passed as negative
        # and silence as the clips' own.
        clips = {
            **inputs,
            "audio": paddle.zeros_like(audio),
            "audio_negative": audio,
            "sync_valid": has_audio(audio),
        }
        _, embeddings = self.backbone(clips)
        pairs = {}
        for stage, (visual, _, negative, _) in embeddings.items():
            vectors = (visual, negative)
            pairs[stage] = tuple(F.normalize(x.astype("float32"), axis=-1) for x in vectors)
        return pairs, has_audio(audio).unsqueeze(1)

    def _negatives(self, inputs):
        """Negative audio for each clip, and whether it can be distinguished from its own."""
        if "epoch" not in inputs:
            raise ValueError(
                "AudioVisualRecognizer takes 'epoch' together with 'audio_negative', because the "
                "negative audio follows a curriculum"
            )
        audio, negative = inputs["audio"], inputs["audio_negative"]
        if list(negative.shape) != list(audio.shape):
            raise ValueError(
                f"'audio_negative' is {list(negative.shape)}; "
                f"expected the shape of 'audio', {list(audio.shape)}"
            )
        share = self.hard_share if int(inputs["epoch"]) >= self.hard_from_epoch else 0.0
        negative = negative[paddle.to_tensor(negative_order(audio.shape[0], share))]
        return {"audio_negative": negative, "sync_valid": distinguishable(audio, negative)}


def has_audio(audio):
    """Whether a clip has audio: a constant log-mel spectrogram is silence or a missing audio track.

    Args:
        audio: normalized log-mel spectrograms, float [N, 1, T, F].

    Returns:
        float32 [N], 1 where the variance is above MIN_VARIANCE, otherwise 0.
    """
    audio = audio.astype("float32")
    centered = audio - audio.mean([1, 2, 3], keepdim=True)
    return ((centered * centered).mean([1, 2, 3]) > MIN_VARIANCE).astype("float32")


def has_frames(clip):
    """Whether a clip has frames: float [N, C, T, H, W] -> float32 [N], 0 for a clip of zeros."""
    clip = clip.astype("float32")
    return ((clip * clip).mean([1, 2, 3, 4]) > 0).astype("float32")


def distinguishable(audio, negative):
    """Whether a synchronization loss is meaningful: neither audio is silent, and they differ.

    Args:
        audio: the clips' own audio, normalized log-mel, float [N, 1, T, F].
        negative: audio that does not belong to the clips, of the same shape.

    Returns:
        float32 [N] of 0 and 1; the cosine similarity of a distinguishable pair is below MAX_COSINE.
    """
    a, b = (x.astype("float32").flatten(1) for x in (audio, negative))
    cosine = (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1)).sqrt().clip(min=1e-8)
    return (cosine < MAX_COSINE).astype("float32") * has_audio(audio) * has_audio(negative)


def negative_order(num_clips: int, hard_share: float) -> list[int]:
    """Choose the clip of the batch from which each clip gets its negative audio.

    The first (1 - hard_share) of the clips, at least one, take it from the next clip (easy);
    the last of them takes it from the first. The other clips keep that of their own video (hard),
    as in the authors' code. So does a single clip.

    Args:
        num_clips: clips of the batch on a rank.
        hard_share: share of clips with a hard negative.

    Returns:
        for each clip an index into the batch.
    """
    easy = max(int((1 - hard_share) * num_clips), 1)
    return [(i + 1) % easy if i < easy else i for i in range(num_clips)]


def keep_only(inputs, names):
    """The inputs of one modality: all others are set to zero, which means no audio or no frames.

    Args:
        inputs: arrays or tensors by name.
        names: inputs that stay unchanged, from `modalities`.
    """
    return {name: value if name in names else value * 0 for name, value in inputs.items()}
