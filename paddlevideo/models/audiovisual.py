"""A recognizer of pictures and sound, and what decides which sounds are learnt from: masks, wrong sounds, their order."""

from typing import Annotated

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlevideo.config.registry import Kind, register
from paddlevideo.losses import synchronisation_loss
from paddlevideo.models.base import Recognizer
from paddlevideo.models.recognizer import pathway_problems

MIN_VARIANCE = 0.01  # of a log-mel clip with sound in it
MAX_COSINE = 0.99999  # between a log-mel clip and one that can be told from it
SYNC_INPUTS = ("audio_negative", "epoch")


@register("framework")
class AudioVisualRecognizer(Recognizer):
    """A network over clips with sound, which may also learn whether picture and sound belong together.

    A clip without sound (see `has_audio`) is classified by its pictures alone: nothing of the audio pathway reaches its
    logits. One whose pictures are all zeros is classified by its sound alone. So a program scores each modality of a clip
    where the inputs of the other are set to zeros; `only` does that, for the names in `modalities`.

    Training with `audio_negative` takes embeddings as well, for the loss `losses.synchronisation_loss`. Wrong sounds follow a
    curriculum: easy ones, of other clips in the batch, and after `hard_from_epoch` in part hard ones, of the same video.

    Args:
        backbone: clips and sounds by name -> (features, embeddings); has `inputs`, `out_channels`, `alpha`, `audio_alpha`.
        head: features -> logits [N, K]; has `connect(channels)`, `num_classes`, `label_smoothing`.
        sync_weight: of the synchronisation losses, each against the classification loss.
        label_weight: of the classification loss; 0 learns without labels.
        sync_margin: distance, at most 1, from which on a wrong sound is far enough.
        hard_from_epoch: the first epoch, from 0, with hard wrong sounds.
        hard_share: of the batch, from then on.
        train_backbone: False keeps the backbone as it was loaded, batch norms too, and trains the head alone (linear probe).

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
                f"MODEL: sync_weight is {sync_weight}, label_weight {label_weight}, sync_margin {sync_margin}; expected "
                "weights of at least 0 and a margin in (0, 1], the largest distance there is"
            )
        super().__init__(backbone, head)
        self.sync_weight, self.label_weight, self.sync_margin = (
            sync_weight,
            label_weight,
            sync_margin,
        )
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
        """Logits [N, K]; in evaluation they are log-probabilities, as those of `Recognizer3D`.

        Args:
            inputs: by the names of `inputs`. In training also, for the embeddings: `audio_negative` float32 [N, 1, T, F], a
                sound of the same video at another time (the clip's own sound where there is none: such a pair does not
                count), and `epoch`, a number from 0.

        Returns:
            in evaluation logits; in training (logits, embeddings) with the embeddings of
            `AVSlowFast.forward`, none without `audio_negative`.

        Raises:
            ValueError: an input is missing, or its shape does not fit.
        """
        if not self.train_backbone:
            self.backbone.eval()  # whatever mode the whole is put into
        clips = {name: inputs[name] for name in inputs if name in self.inputs}
        if self.training and self.train_backbone and "audio_negative" in inputs:
            clips |= self._wrong_sounds(inputs)
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
        """What the network makes of pictures and of sound to compare them, neither having heard or seen the other.

        Args:
            inputs: by the names of `inputs`.

        Returns:
            ({"s3": (visual, sound), ...}, audible): float32 [N, D] of length 1 each, and float32 [N, 1], 0 where a clip has no
            sound.
        """
        audio = inputs["audio"]
        # Silence takes the sound's place at the junctions, and the sound that of a wrong one: it is not added to the pictures.
        clips = {
            **inputs,
            "audio": paddle.zeros_like(audio),
            "audio_negative": audio,
            "sync_valid": has_audio(audio),
        }
        found = self.backbone(clips)[1]
        pairs = {
            stage: tuple(F.normalize(x.astype("float32"), axis=-1) for x in (visual, sound))
            for stage, (visual, _, sound, _) in found.items()
        }
        return pairs, has_audio(audio).unsqueeze(1)

    def _wrong_sounds(self, inputs):
        """For each clip a sound that is not its own, and whether there is telling them apart."""
        if "epoch" not in inputs:
            raise ValueError(
                "AudioVisualRecognizer takes 'epoch' beside 'audio_negative': the wrong sounds follow a curriculum"
            )
        audio, negative = inputs["audio"], inputs["audio_negative"]
        if list(negative.shape) != list(audio.shape):
            raise ValueError(
                f"'audio_negative' is {list(negative.shape)}; expected the shape of 'audio', {list(audio.shape)}"
            )
        share = self.hard_share if int(inputs["epoch"]) >= self.hard_from_epoch else 0.0
        negative = negative[paddle.to_tensor(negative_order(audio.shape[0], share))]
        return {"audio_negative": negative, "sync_valid": distinguishable(audio, negative)}


def has_audio(audio):
    """Whether there is sound: a log-mel spectrogram of one value is silence, or stands for none.

    Args:
        audio: normalised log-mel, float [N, 1, T, F].

    Returns:
        float32 [N], 1 where the variance is above MIN_VARIANCE, otherwise 0.
    """
    audio = audio.astype("float32")
    deviation = audio - audio.mean([1, 2, 3], keepdim=True)
    return ((deviation * deviation).mean([1, 2, 3]) > MIN_VARIANCE).astype("float32")


def has_frames(clip):
    """float [N, C, T, H, W] -> float32 [N]: 0 where a clip is nothing but zeros, which stands for no pictures."""
    clip = clip.astype("float32")
    return ((clip * clip).mean([1, 2, 3, 4]) > 0).astype("float32")


def distinguishable(audio, negative):
    """Whether a synchronisation loss makes sense: both have sound, and they are not the same.

    Args:
        audio, negative: normalised log-mel, float [N, 1, T, F], sounds that do and do not belong to the pictures.

    Returns:
        float32 [N] of 0 and 1; their cosine, about zero, must be below MAX_COSINE.
    """
    a, b = (x.astype("float32").flatten(1) for x in (audio, negative))
    cosine = (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1)).sqrt().clip(min=1e-8)
    return (cosine < MAX_COSINE).astype("float32") * has_audio(audio) * has_audio(negative)


def negative_order(num_clips: int, hard_share: float) -> list[int]:
    """Whose wrong sound each clip of a batch gets: of the next one (easy), or its own video's (hard).

    The first (1 - hard_share) of the clips, at least one, pass theirs around; the others keep their own, as in the authors'
    code. One clip alone keeps its own.

    Args:
        num_clips: in the batch of a rank.
        hard_share: of clips with a hard one.

    Returns:
        an index into the batch for each clip.
    """
    easy = max(int((1 - hard_share) * num_clips), 1)
    return [(i + 1) % easy if i < easy else i for i in range(num_clips)]


def only(inputs, names):
    """The inputs of one modality: those of other names are set to zeros, which stand for no sound and no pictures.

    Args:
        inputs: arrays or tensors by name.
        names: which stay as they are, as `modalities` lists them.
    """
    return {name: value if name in names else value * 0 for name, value in inputs.items()}
