"""AVSlowFast: SlowFast with a third pathway for audio, fused with the frames at several stages.

Paper: Xiao et al. 2020, "Audiovisual SlowFast Networks for Video Recognition", with its DropPathway
and its audiovisual synchronization.
Published: 77.0 % top-1 on Kinetics-400 for 4x16 with ResNet-50, 10 clips x 3 crops (the paper); not
reproduced.
Weights: names and shapes map one to one to those of the authors' code (`convert/avslowfast.py`).
Differs from the authors' code: with more than one clip per batch that code pairs audio with the
wrong clips, here each clip keeps its own; a clip without audio is classified by vision alone, one
without frames by audio alone; losses are not divided by the number of ranks.
"""

from collections.abc import Sequence
from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlevideo.config.registry import register
from paddlevideo.models.audiovisual import has_audio, has_frames
from paddlevideo.models.av_slowfast_layers import AudioStem, Junction, TimeFrequencyBlock
from paddlevideo.models.base import Backbone, Head
from paddlevideo.models.layers import RESNET_DEPTHS, linear_classifier
from paddlevideo.models.pooling import log_mean_probability, pool_positions
from paddlevideo.models.slowfast import STAGE_FRAMES, STEM_FRAMES, Block, Stage, Stem
from paddlevideo.sample import InputSpec

PATHWAYS = ("slow", "fast", "audio")
AUDIO_REDUCTION = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}  # of time and frequency, after each stage


@register("backbone")
class AVSlowFast(Backbone):
    """Three ResNets, for few frames, all frames and audio; fast joins slow, audio joins both.

    DropPathway: a training step drops the connections from audio at random. Audio trains faster
    than frames, and without this the network would overfit to it. As in the authors' code, one draw
    holds for all clips of a step on a rank, and each rank draws its own. The draw comes from
    Paddle's generator, which the engine seeds by (seed, epoch, step, rank), so a resumed run draws
    the same.

    Args:
        alpha: frames of the fast pathway per frame of the slow pathway.
        beta: channels of the slow pathway per channel of the fast pathway.
        width_per_group: channels of the slow stem.
        fusion_kernel_sz: kernel size in frames of a lateral convolution from fast to slow, odd.
        fusion_conv_channel_ratio: output channels of that convolution per fast channel.
        depth: 50 or 101.
        audio_alpha: time steps of the log-mel input per slow frame.
        audio_beta: channels of the slow stem per channel of the audio stem.
        fs_stages: stages, 1 to 4, after which fast joins slow.
        afs_stages: those of fs_stages after which audio is added to slow and fast.
        avs_stages: stages, 1 to 5, after which embeddings for the synchronization loss are taken;
            an empty list disables the loss.
        drop_pathway: probability that a step drops the connections from audio.
        drop_per_sample: draw for each clip instead of each step.
        pretrained: weights of an AVSlowFast to start from (`.pdparams`); empty for none.

    Raises:
        ValueError: a size or a stage is out of range.
    """

    inputs = {  # noqa: RUF012
        "slow": InputSpec((None, 3, None, None, None), "float32", "N C T H W"),
        "fast": InputSpec((None, 3, None, None, None), "float32", "N C T H W"),
        "audio": InputSpec((None, 1, None, None), "float32", "N C T F"),
    }

    def __init__(
        self,
        alpha: int = 8,
        beta: int = 8,
        width_per_group: int = 64,
        fusion_kernel_sz: int = 5,
        fusion_conv_channel_ratio: int = 2,
        depth: Literal[50, 101] = 50,
        audio_alpha: int = 32,
        audio_beta: int = 2,
        fs_stages: list[int] = (3, 4),  # type: ignore[assignment]
        afs_stages: list[int] = (3, 4),  # type: ignore[assignment]
        avs_stages: list[int] = (3, 4, 5),  # type: ignore[assignment]
        drop_pathway: float = 0.8,
        drop_per_sample: bool = False,
        pretrained: str | None = None,
    ):
        super().__init__()
        _check_sizes(width_per_group, beta=beta, audio_beta=audio_beta)
        _check_fusion(alpha, fusion_conv_channel_ratio, fusion_kernel_sz, drop_pathway)
        _check_stages(audio_alpha, fs_stages, afs_stages, avs_stages)
        self.alpha, self.audio_alpha = alpha, audio_alpha
        self.drop_pathway, self.drop_per_sample = drop_pathway, drop_per_sample
        self.pretrained = pretrained or None
        self.avs_stages = tuple(sorted(avs_stages))
        self._fs_stages, self._afs_stages = fs_stages, afs_stages
        self._junctions = {*fs_stages, *avs_stages}  # numbers of the stages followed by one
        self._lateral = (fusion_conv_channel_ratio, fusion_kernel_sz)
        self.unused_pretrained = ("head.", *self._absent_fusion())
        widths = {
            "slow": width_per_group,
            "fast": width_per_group // beta,
            "audio": width_per_group // audio_beta,
        }
        self.out_channels = self._add_stages(widths, RESNET_DEPTHS[depth][1])

    def _absent_fusion(self):
        """Prefixes of the fusion layers of other stage settings, which this network lacks."""
        return (
            *(f"s{n}_fuse." for n in range(1, 6) if n not in self._junctions),
            *(f"s{n}_fuse.avs." for n in self._junctions if n not in self.avs_stages),
            *(
                f"s{n}_fuse.a2fs."
                for n in self._junctions
                if n not in (*self.avs_stages, *self._afs_stages)
            ),
        )

    def _add_stages(self, widths, num_blocks):
        """Add the stem, four stages and the junctions between them.

        Args:
            widths: channels of the stem by pathway.
            num_blocks: blocks of each of the four stages.

        Returns:
            {pathway: channels of the last stage}.
        """
        channels = dict(widths)  # between the stages
        widths = dict(widths)  # inside the blocks; they double from stage to stage
        stems = {p: {"stem": Stem(channels[p], STEM_FRAMES[p], 1)} for p in ("slow", "fast")}
        self.s1 = Stage({**stems, "audio": {"stem": AudioStem(channels["audio"])}})
        lateral_channels = self._add_junction(1, channels)
        for stage, stage_blocks in enumerate(num_blocks):
            blocks = {}
            for p in PATHWAYS:
                in_channels = channels[p] + (lateral_channels if p == "slow" else 0)
                channels[p] = 4 * widths[p]
                sizes = (in_channels, widths[p], channels[p])
                blocks[p] = _blocks(p, stage, stage_blocks, *sizes)
                widths[p] *= 2
            self.add_sublayer(f"s{stage + 2}", Stage(blocks))
            lateral_channels = self._add_junction(stage + 2, channels)
        return channels

    def _add_junction(self, number, channels):
        """Add the junction after a stage, if there is one; return the channels it adds to slow."""
        ratio, kernel_size = self._lateral
        lateral_channels = ratio * channels["fast"]
        if number in self._junctions:
            stages = (self._fs_stages, self._afs_stages, self.avs_stages)
            flags = (number in numbers for numbers in stages)
            fast_to_slow = (lateral_channels, kernel_size, self.alpha)
            stride = self.audio_alpha // AUDIO_REDUCTION[number]
            self.add_sublayer(f"s{number}_fuse", Junction(channels, fast_to_slow, stride, *flags))
        return lateral_channels if number in self._fs_stages else 0

    def forward(self, inputs):
        """Clips and audio -> features, embeddings.

        Args:
            inputs: {"slow": float32 [N, 3, T/alpha, H, W], "fast": [N, 3, T, H, W], "audio":
                [N, 1, Ta, F] with Ta time steps and F mel bins}. Embeddings also need
                `audio_negative` [N, 1, Ta, F], audio that is not the clip's own, and
                `sync_valid` float32 [N], 0 where the two cannot be distinguished.

        Returns:
            {pathway: [N, C, T/alpha or T, H/32, W/32]}, audio [N, C, 1, Ta/8, F/8], zero where a
            clip has no audio (see `has_audio`) or no frames (see `has_frames`), and
            {"s3": (visual, own, negative, weight), ...}: three embeddings float
            [N, SYNC_CHANNELS], and float32 [N], 0 where a clip does not count: it is not valid, or
            audio was added to its frames at an earlier stage.

        Raises:
            ValueError: a pathway is missing, has another number of axes, or the lengths do not fit
                alpha and audio_alpha.
        """
        clips = self._checked(inputs)
        audio_present = has_audio(clips["audio"]).reshape([-1, 1, 1, 1, 1])
        frames_present = has_frames(clips["fast"]).reshape([-1, 1, 1, 1, 1])
        kept = self._draw_kept(clips["slow"].shape[0])
        audio_weight = audio_present if kept is None else audio_present * kept
        with_negative = "audio_negative" in inputs and bool(self.avs_stages)
        audio = clips["audio"]
        if with_negative:
            audio = paddle.concat([audio, inputs["audio_negative"]])
        features = {"slow": clips["slow"], "fast": clips["fast"], "audio": audio.unsqueeze(2)}
        embeddings = {}
        for number in range(1, 6):
            features = getattr(self, f"s{number}")(features)  # H/4, H/4, H/8, H/16, H/32
            if number not in self._junctions:
                continue
            junction = getattr(self, f"s{number}_fuse")
            if not (junction.fs or with_negative):
                continue
            features, vectors = junction(features, audio_weight, with_negative)
            if vectors is not None:
                weight = self._sync_weight(inputs["sync_valid"], kept, number)
                embeddings[f"s{number}"] = (*vectors, weight)
        if with_negative:
            features["audio"] = features["audio"][: features["slow"].shape[0]]
        present = {"slow": frames_present, "fast": frames_present, "audio": audio_present}
        return {name: x * present[name].astype(x.dtype) for name, x in features.items()}, embeddings

    def _draw_kept(self, num_clips):
        """DropPathway: [N or 1, 1, 1, 1, 1], 0 where audio is dropped; None if it never is."""
        if not self.training or self.drop_pathway == 0:
            return None
        draws = paddle.rand([num_clips if self.drop_per_sample else 1, 1, 1, 1, 1])
        return (draws >= self.drop_pathway).astype("float32")

    def _sync_weight(self, valid, kept, number):
        """[N]: 1 for valid clips to whose frames no audio was added before this stage."""
        valid = valid.astype("float32")
        if number <= min(self._afs_stages, default=5):
            return valid
        return valid * 0 if kept is None else valid * (1 - kept.reshape([-1]))

    @paddle.jit.not_to_static  # checks shapes only, not part of a program
    def _checked(self, inputs):
        message = (
            "AVSlowFast takes 'slow' [N, 3, T/alpha, H, W], 'fast' [N, 3, T, H, W], "
            "'audio' [N, 1, time steps, mel bins]; it was given"
        )
        if any(name not in inputs for name in PATHWAYS):
            raise ValueError(f"{message} {', '.join(inputs) or 'nothing'}")
        clips = {name: inputs[name] for name in PATHWAYS}
        shapes = {name: list(clip.shape) for name, clip in clips.items()}
        if [len(shape) for shape in shapes.values()] != [5, 5, 4]:
            raise ValueError(f"{message} {shapes}")
        slow = shapes["slow"][2]
        for key, ratio, name, unit in (
            ("alpha", self.alpha, "fast", "frames"),
            ("audio_alpha", self.audio_alpha, "audio", "time steps"),
        ):
            length = shapes[name][2]
            # An exported program may leave lengths free (-1).
            if min(slow, length) > 0 and slow * ratio != length:
                raise ValueError(
                    f"AVSlowFast has {key} {ratio}: {name!r} must have {ratio} {unit} per frame of "
                    f"'slow'; it was given {slow} slow frames and {length} {unit}"
                )
        return clips


@register("head")
class AVSlowFastHead(Head):
    """Mean over time, mean over space, dropout, linear classifier on the channels of all pathways.

    A crop larger than that of training has several positions, which share the same audio;
    evaluation averages their probabilities, see `SlowFastHead`. The classifier is linear, so its
    logits are a visual part plus an audio part; the audio part is zero for a clip without audio.

    Args:
        num_classes: width of the logits; by default the number of classes of the data set.
        crop_size: height and width of a training clip in pixels; smaller clips are pooled
            completely.
        dropout_rate: dropout before the classifier.
        multigrid_short: always pool the complete map, for training with changing crop sizes.
        ls_eps: label smoothing of the training loss.
        keep_rows: by_name starts from the rows of a checkpoint's classes with the same names.

    Raises:
        ValueError: a value is out of range.
    """

    class_layer = "head.projection"

    def __init__(
        self,
        num_classes: int,
        crop_size: int = 224,
        dropout_rate: float = 0.5,
        multigrid_short: bool = False,
        ls_eps: float = 0.0,
        keep_rows: Literal["by_name"] | None = None,
    ):
        super().__init__()
        if crop_size < 32:
            raise ValueError(f"MODEL.head: crop_size is {crop_size}; at least 32 pixels are needed")
        for name, share in (("dropout_rate", dropout_rate), ("ls_eps", ls_eps)):
            if not 0 <= share < 1:
                raise ValueError(f"MODEL.head: {name} is {share}; it must be in [0, 1)")
        self.num_classes, self.keep_rows = num_classes, keep_rows
        self.label_smoothing = ls_eps
        self._window = None if multigrid_short else crop_size // 32
        self.dropout = nn.Dropout(dropout_rate)

    def connect(self, backbone: Backbone) -> None:
        """Create the classifier for the backbone's feature maps."""
        channels = backbone.out_channels
        self._visual_channels = channels["slow"] + channels["fast"]
        self.projection = linear_classifier(sum(channels.values()), self.num_classes)

    def forward(self, features):
        """Feature maps {pathway: float [N, C, T, H, W]} -> logits float32 [N, num_classes]."""
        visual = [features["slow"].mean(2), features["fast"].mean(2)]
        visual = pool_positions(paddle.concat(visual, axis=1), self._window)
        visual = self.dropout(visual)  # [N, positions, C]
        audio = self.dropout(features["audio"].mean([2, 3, 4])).unsqueeze(1)  # [N, 1, C]
        weight = self.projection.weight  # rows for slow, fast, audio: [C, K]
        visual_logits = F.linear(visual, weight[: self._visual_channels])
        audio_logits = F.linear(audio, weight[self._visual_channels :])
        logits = visual_logits + audio_logits + self.projection.bias  # [N, positions, K]
        return logits.mean(1) if self.training else log_mean_probability(logits)


def _blocks(pathway, stage, num_blocks, in_channels, width, out_channels):
    """{name: residual block} of a pathway in a stage, counted from 0."""
    blocks = {}
    for i in range(num_blocks):
        stride = 2 if i == 0 and stage > 0 else 1
        sizes = (in_channels, width, out_channels)
        if pathway == "audio" and stage < 2:
            blocks[f"res{i}"] = TimeFrequencyBlock(*sizes, stride)
        else:
            num_frames = 1 if pathway == "audio" else STAGE_FRAMES[pathway][stage]
            blocks[f"res{i}"] = Block(*sizes, num_frames, stride, 1)
        in_channels = out_channels
    return blocks


def _check_sizes(width_per_group, **betas):
    for name, value in betas.items():
        if value < 1 or width_per_group < value or width_per_group % value:
            raise ValueError(
                f"MODEL.backbone: width_per_group is {width_per_group}; "
                f"it must be a multiple of {name}, {value}"
            )


def _check_fusion(alpha, channel_ratio, kernel_size, drop_pathway):
    if (
        min(alpha, channel_ratio, kernel_size) < 1
        or kernel_size % 2 != 1
        or not 0 <= drop_pathway <= 1
    ):
        raise ValueError(
            f"MODEL.backbone: alpha is {alpha}, fusion_conv_channel_ratio {channel_ratio}, "
            f"fusion_kernel_sz {kernel_size}, drop_pathway {drop_pathway}; "
            "expected at least 1, at least 1, odd and at least 1, and in [0, 1]"
        )


def _check_stages(
    audio_alpha: int, fs_stages: Sequence[int], afs_stages: Sequence[int], avs_stages: Sequence[int]
) -> None:
    stages = {"fs_stages": fs_stages, "afs_stages": afs_stages, "avs_stages": avs_stages}
    for name, numbers in stages.items():
        last = 5 if name == "avs_stages" else 4
        if len({*numbers}) < len(numbers) or not all(1 <= n <= last for n in numbers):
            raise ValueError(
                f"MODEL.backbone: {name} is {list(numbers)}; "
                f"expected different stages, from 1 to {last}"
            )
    without_fast = sorted({*afs_stages} - {*fs_stages})
    if without_fast:
        raise ValueError(
            f"MODEL.backbone: afs_stages has {without_fast}, but fs_stages has not; "
            "audio is added to slow and fast together"
        )
    used = [AUDIO_REDUCTION[n] for n in (*afs_stages, *avs_stages)]
    if audio_alpha < 1 or any(audio_alpha % reduction for reduction in used):
        raise ValueError(
            f"MODEL.backbone: audio_alpha is {audio_alpha}; it must be a multiple of "
            f"{max(used, default=1)}, the reduction of audio at the last stage that uses it"
        )
