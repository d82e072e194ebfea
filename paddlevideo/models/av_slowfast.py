"""AVSlowFast: SlowFast with a third pathway for sound, fused with the pictures at several stages.

Paper: Xiao et al. 2020, "Audiovisual SlowFast Networks for Video Recognition"; its DropPathway and synchronisation too.
Published: 77.0 % top-1 on Kinetics-400 for 4x16 with ResNet-50, 10 clips x 3 crops (the paper); not reproduced.
Weights: names and shapes map one to one onto those of the authors' code (`convert/avslowfast.py`).
Differs from the authors' code: above one clip a batch that code pairs sounds with the wrong clips, here each keeps its own; a
clip without sound is classified by vision alone, one without pictures by sound alone; losses are not divided by the ranks.
"""

from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import Constant, Normal

from paddlevideo.config.registry import register
from paddlevideo.models.audiovisual import has_audio, has_frames
from paddlevideo.models.base import Backbone, Head
from paddlevideo.models.layers import RESNET_DEPTHS
from paddlevideo.models.slowfast import (
    STAGE_FRAMES,
    STEM_FRAMES,
    Block,
    Lateral,
    Stage,
    Stem,
    conv,
    log_mean_probability,
    norm,
    pool_positions,
    relu,
)
from paddlevideo.sample import InputSpec

PATHWAYS = ("slow", "fast", "audio")
AUDIO_REDUCTION = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}  # of time and frequency, after each stage
LATERAL_CHANNELS = 64  # between the two convolutions from sound to pictures
SYNC_CHANNELS = 64  # of the embeddings whose distances are learnt


class AudioStem(nn.Layer):
    """9x1 over time plus 1x9 over frequency; the size stays."""

    def __init__(self, out_channels):
        super().__init__()
        self.conv_t = conv(1, out_channels, (1, 9, 1))
        self.conv_f = conv(1, out_channels, (1, 1, 9))
        self._bn = norm(out_channels, 1)

    def forward(self, x):
        return relu(self._bn(self.conv_t(x) + self.conv_f(x)))  # [N, C, 1, T, F]


class TimeFrequencyBranch(nn.Layer):
    """The residual function of an early block: 3x1 over time beside 1x3 over frequency, both with the stride, then 1x1."""

    def __init__(self, in_channels, width, out_channels, stride):
        super().__init__()
        self.t = conv(in_channels, width, (1, 3, 1), (1, stride, stride))
        self.t_bn = norm(width, 1)
        self.f = conv(in_channels, width, (1, 1, 3), (1, stride, stride))
        self.f_bn = norm(width, 1)
        self.out = conv(2 * width, out_channels, (1, 1, 1))
        self.out_bn = norm(out_channels, 1, scale=0.0)  # a block starts as its shortcut

    def forward(self, x):
        x = paddle.concat(
            [relu(self.t_bn(self.t(x))), relu(self.f_bn(self.f(x)))], axis=1
        )  # [N, 2*width, 1, T, F]
        return self.out_bn(self.out(x))


class TimeFrequencyBlock(nn.Layer):
    """Early block of the audio pathway with a shortcut; the first of a stage projects it."""

    def __init__(self, in_channels, width, out_channels, stride):
        super().__init__()
        self._project = in_channels != out_channels or stride != 1
        if self._project:
            self.branch1 = conv(in_channels, out_channels, (1, 1, 1), (1, stride, stride))
            self.branch1_bn = norm(out_channels, 1)
        self.branch2 = TimeFrequencyBranch(in_channels, width, out_channels, stride)

    def forward(self, x):
        shortcut = self.branch1_bn(self.branch1(x)) if self._project else x
        return relu(shortcut + self.branch2(x))


class AudioLateral(nn.Layer):
    """Sound to pictures: mean over frequency, two convolutions over time, of which the second keeps one step a slow frame."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.conv0 = conv(in_channels, LATERAL_CHANNELS, (1, 5, 1))
        self.bn0 = norm(LATERAL_CHANNELS, 1)
        self.conv1 = conv(LATERAL_CHANNELS, out_channels, (1, 5, 1), (1, stride, 1))
        self.bn1 = norm(out_channels, 1)

    def forward(self, x):
        x = relu(self.bn0(self.conv0(x.mean(4, keepdim=True))))
        x = relu(self.bn1(self.conv1(x)))  # [N, C, 1, T/stride, 1]
        return x.transpose([0, 1, 3, 2, 4])  # [N, C, T/stride, 1, 1]: beside the frames


class SyncProjection(nn.Layer):
    """Embeddings in which a picture lies close to its own sound: one projection for pictures, one for sounds."""

    def __init__(self, channels):
        super().__init__()
        self.ref_fc = nn.Linear(channels, SYNC_CHANNELS)
        self.query_fc = nn.Linear(channels, SYNC_CHANNELS)

    def forward(self, visual, audio):
        """visual [N, C, T, H, W], audio [2N, C, T, 1, 1], own before other -> [N, SYNC_CHANNELS] of visual, own, other."""
        num_clips = visual.shape[0]
        queries = self.query_fc(audio.mean([2, 3, 4]))
        return self.ref_fc(visual.mean([2, 3, 4])), queries[:num_clips], queries[num_clips:]


class Junction(nn.Layer):
    """Between two stages: fast joins slow, sound is added to both, and embeddings are taken before it is.

    Args:
        channels: of each pathway.
        fast_to_slow: lateral channels of fast, frames they see, alpha.
        audio_stride: rows of sound for each slow frame.
        fs, afs, avs: whether fast joins slow, sound is added, embeddings are taken.
    """

    def __init__(self, channels, fast_to_slow, audio_stride, fs, afs, avs):
        super().__init__()
        joined, num_frames, alpha = fast_to_slow
        self.fs, self.afs = fs, afs
        self.f2s = Lateral(channels["fast"], joined, num_frames, alpha, 1)
        width = channels["slow"] + joined
        self.a2fs = AudioLateral(channels["audio"], width, audio_stride) if afs or avs else None
        self.avs = SyncProjection(width) if avs else None

    def forward(self, features, audible, pairs):
        """
        Args:
            features: by pathway; `audio` [2N, ...] carries own and other sounds where `pairs` are wanted, otherwise [N, ...].
            audible: [N, 1, 1, 1, 1] or [1, 1, 1, 1, 1], 1 where sound is added, 0 where it is not.
            pairs: whether embeddings are wanted.

        Returns:
            features, and the three embeddings or None.
        """
        slow = self.f2s(features)["slow"]  # [N, slow + joined, T, H, W]
        embeddings = None
        if self.afs or (self.avs and pairs):
            added = self.a2fs(features["audio"])
            if self.avs and pairs:
                embeddings = self.avs(slow, added)
            if self.afs:
                own = added[: slow.shape[0]] if pairs else added
                slow = slow + own * audible.astype(own.dtype)
        return {**features, "slow": slow} if self.fs else features, embeddings


@register("backbone")
class AVSlowFast(Backbone):
    """Three ResNets, for few frames, for all frames and for sound, with connections from fast to slow and from sound to both.

    DropPathway: in training the connections from sound are cut at random, or sound, which is learnt sooner, would be listened
    to alone. One draw decides for a step's clips on a rank, and each rank draws its own, as the authors' code does; it comes
    from Paddle's generator, which the engine seeds by (seed, epoch, step, rank), so that a resumed run draws the same.

    Args:
        alpha: frames of the fast pathway for each one of the slow pathway.
        beta: channels of the slow pathway for each one of the fast pathway.
        width_per_group: channels of the slow stem.
        fusion_kernel_sz: frames that a lateral convolution from fast to slow sees.
        fusion_conv_channel_ratio: channels that fast gives to slow, for each channel of fast.
        depth: 50 or 101.
        audio_alpha: rows of the log-mel input for each slow frame.
        audio_beta: channels of the slow stem for each one of the audio stem.
        fs_stages: after which of the stages 1 to 4 fast joins slow.
        afs_stages: after which of those stages sound is added to slow and fast.
        avs_stages: after which of the stages 1 to 5 embeddings for the synchronisation loss are taken; none leaves it out.
        drop_pathway: share of steps without sound in the connections.
        drop_per_sample: draw for each clip instead of each step.
        pretrained: weights of an AVSlowFast to start from (`.pdparams`), loaded by the engine; empty for none.

    Attributes:
        inputs: what `forward` takes, by name.
        out_channels: of the feature maps, by pathway.
        unused_pretrained: beginnings of names in a weight file that have no place here.
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
        fs_stages: list[int] = (3, 4),  # type: ignore[assignment]  # immutable defaults
        afs_stages: list[int] = (3, 4),  # type: ignore[assignment]
        avs_stages: list[int] = (3, 4, 5),  # type: ignore[assignment]
        drop_pathway: float = 0.8,
        drop_per_sample: bool = False,
        pretrained: str | None = None,
    ):
        super().__init__()
        _check_sizes(width_per_group, beta=beta, audio_beta=audio_beta)
        _check_stages(
            audio_alpha,
            {"fs_stages": fs_stages, "afs_stages": afs_stages, "avs_stages": avs_stages},
        )
        if (
            min(alpha, fusion_conv_channel_ratio) < 1
            or fusion_kernel_sz % 2 != 1
            or not 0 <= drop_pathway <= 1
        ):
            raise ValueError(
                f"MODEL.backbone: alpha is {alpha}, fusion_conv_channel_ratio {fusion_conv_channel_ratio}, fusion_kernel_sz "
                f"{fusion_kernel_sz}, drop_pathway {drop_pathway}; expected at least 1, at least 1, odd, and in [0, 1]"
            )
        self.alpha, self.audio_alpha = alpha, audio_alpha
        self.drop_pathway, self.drop_per_sample = drop_pathway, drop_per_sample
        self.pretrained = pretrained or None
        self.avs_stages, self.first_mixed = tuple(sorted(avs_stages)), min(afs_stages, default=5)
        junctions = {*fs_stages, *avs_stages}
        self.unused_pretrained = (
            "head.",
            *(f"s{n}_fuse." for n in range(1, 6) if n not in junctions),
            *(f"s{n}_fuse.avs." for n in junctions if n not in avs_stages),
            *(f"s{n}_fuse.a2fs." for n in junctions if n not in (*avs_stages, *afs_stages)),
        )

        def join(number):
            if number in junctions:
                fast_to_slow = fusion_conv_channel_ratio * channels["fast"], fusion_kernel_sz, alpha
                flags = (number in stages for stages in (fs_stages, afs_stages, avs_stages))
                stride = audio_alpha // AUDIO_REDUCTION[number]
                self.add_sublayer(
                    f"s{number}_fuse", Junction(channels, fast_to_slow, stride, *flags)
                )
            return fusion_conv_channel_ratio * channels["fast"] if number in fs_stages else 0

        channels = {
            "slow": width_per_group,
            "fast": width_per_group // beta,
            "audio": width_per_group // audio_beta,
        }
        stems = {p: {"stem": Stem(channels[p], STEM_FRAMES[p], 1)} for p in ("slow", "fast")}
        self.s1 = Stage({**stems, "audio": {"stem": AudioStem(channels["audio"])}})
        joined = join(1)
        widths = dict(channels)  # inside the blocks; they double from stage to stage
        for stage, num_blocks in enumerate(RESNET_DEPTHS[depth][1]):
            blocks = {p: {} for p in PATHWAYS}
            for p in PATHWAYS:
                in_channels = channels[p] + (joined if p == "slow" else 0)
                channels[p] = 4 * widths[p]
                for i in range(num_blocks):
                    stride = 2 if i == 0 and stage > 0 else 1
                    sizes = (in_channels, widths[p], channels[p])
                    if p == "audio" and stage < 2:
                        blocks[p][f"res{i}"] = TimeFrequencyBlock(*sizes, stride)
                    else:
                        num_frames = 1 if p == "audio" else STAGE_FRAMES[p][stage]
                        blocks[p][f"res{i}"] = Block(*sizes, num_frames, stride, 1)
                    in_channels = channels[p]
                widths[p] *= 2
            self.add_sublayer(f"s{stage + 2}", Stage(blocks))
            joined = join(stage + 2)
        self.out_channels = channels

    def forward(self, inputs):
        """Clips and sounds -> features, embeddings.

        Args:
            inputs: {"slow": float32 [N, 3, T/alpha, H, W], "fast": [N, 3, T, H, W], "audio": [N, 1, rows, bands]}. For
                embeddings also `audio_negative` [N, 1, rows, bands], for each clip a sound that is not its own, and
                `sync_valid` float32 [N], 0 where there is no telling the two apart.

        Returns:
            {pathway: [N, C, T/alpha or T, H/32, W/32], for sound [N, C, 1, rows/8, bands/8]}, zero where a clip has no sound
            (see `has_audio`) or no pictures (see `has_frames`), and
            {"s3": (visual, own, other, weight), ...}: three of float [N, SYNC_CHANNELS], and float32 [N], 0 where a clip does
            not count: not valid, or sound has been mixed into the pictures before.

        Raises:
            ValueError: a pathway is missing, has another number of axes, or the lengths do not stand in the ratios.
        """
        clips = self._checked(inputs)
        sound = has_audio(clips["audio"]).reshape([-1, 1, 1, 1, 1])
        pictures = has_frames(clips["fast"]).reshape([-1, 1, 1, 1, 1])
        kept = self._drawn(clips["slow"].shape[0])
        pairs = "audio_negative" in inputs and bool(self.avs_stages)
        audio = (
            paddle.concat([clips["audio"], inputs["audio_negative"]]) if pairs else clips["audio"]
        )
        features = {"slow": clips["slow"], "fast": clips["fast"], "audio": audio.unsqueeze(2)}
        embeddings = {}
        for number in range(1, 6):
            features = getattr(self, f"s{number}")(features)  # H/4, H/4, H/8, H/16, H/32
            junction = getattr(self, f"s{number}_fuse", None)
            if junction is None or not (junction.fs or pairs):
                continue
            features, found = junction(features, sound if kept is None else sound * kept, pairs)
            if found is not None:
                embeddings[f"s{number}"] = (
                    *found,
                    self._weight(inputs["sync_valid"], kept, number),
                )
        if pairs:
            features["audio"] = features["audio"][: features["slow"].shape[0]]
        present = {"slow": pictures, "fast": pictures, "audio": sound}
        return {name: x * present[name].astype(x.dtype) for name, x in features.items()}, embeddings

    def _drawn(self, num_clips):
        """DropPathway: [N or 1, 1, 1, 1, 1] of 0 and 1, None where nothing is dropped."""
        if not self.training or self.drop_pathway == 0:
            return None
        draws = paddle.rand([num_clips if self.drop_per_sample else 1, 1, 1, 1, 1])
        return (draws >= self.drop_pathway).astype("float32")

    def _weight(self, valid, kept, number):
        """[N]: which clips count after a stage: valid ones, as long as their pictures have heard nothing."""
        valid = valid.astype("float32")
        if number <= self.first_mixed:
            return valid
        return valid * 0 if kept is None else valid * (1 - kept.reshape([-1]))

    @paddle.jit.not_to_static  # questions about shapes, no part of a program
    def _checked(self, inputs):
        wanted = "'slow' [N, 3, T/alpha, H, W], 'fast' [N, 3, T, H, W], 'audio' [N, 1, rows, bands]"
        if any(name not in inputs for name in PATHWAYS):
            raise ValueError(
                f"AVSlowFast takes {wanted}; it was given {', '.join(inputs) or 'nothing'}"
            )
        clips = {name: inputs[name] for name in PATHWAYS}
        shapes = {name: list(clip.shape) for name, clip in clips.items()}
        if [len(shape) for shape in shapes.values()] != [5, 5, 4]:
            raise ValueError(f"AVSlowFast takes {wanted}; it was given {shapes}")
        slow = shapes["slow"][2]
        for name, ratio, length in (
            ("fast", self.alpha, shapes["fast"][2]),
            ("audio", self.audio_alpha, shapes["audio"][2]),
        ):
            if (
                min(slow, length) > 0 and slow * ratio != length
            ):  # an exported program may leave them open (-1)
                key, unit = ("alpha", "frames") if name == "fast" else ("audio_alpha", "rows")
                raise ValueError(
                    f"AVSlowFast has {key} {ratio}: {name!r} must have {ratio} {unit} for each frame of 'slow'; it was given "
                    f"{slow} slow frames and {length} {unit}"
                )
        return clips


@register("head")
class AVSlowFastHead(Head):
    """Mean over time, mean over space, dropout, linear classifier on the channels of all pathways.

    Larger pictures than those of training have several positions to classify; sound is the same at all of them. Evaluation
    averages their probabilities. The classifier is linear, so its logits are a part of pictures plus a part of sound: where
    a clip has no sound, that part is zero.

    Args:
        num_classes: width of the logits; given by the data set where the config does not say it.
        crop_size: height and width of a training clip, in pixels; smaller pictures are pooled whole.
        dropout_rate: dropout before the classifier.
        multigrid_short: always pool the whole picture, for training that changes its size.
        ls_eps: label smoothing of the training loss.
        keep_rows: by_name starts with the rows of a checkpoint's classes that have the same name; used by the engine.

    Raises:
        ValueError: a number out of range.
    """

    class_layer = "projection"

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
        """Create the classifier for the feature maps of a backbone."""
        channels = backbone.out_channels
        self._visual = channels["slow"] + channels["fast"]
        weight_attr, bias_attr = (
            ParamAttr(initializer=Normal(std=0.01)),
            ParamAttr(initializer=Constant(0.0)),
        )
        self.projection = nn.Linear(
            sum(channels.values()), self.num_classes, weight_attr=weight_attr, bias_attr=bias_attr
        )

    def forward(self, features):
        """features: {pathway: float [N, C, T, H, W]} -> logits float32 [N, num_classes]; see `SlowFastHead`."""
        visual = paddle.concat(
            [features["slow"].mean(2), features["fast"].mean(2)], axis=1
        )  # [N, C, H, W]
        visual = self.dropout(pool_positions(visual, self._window))  # [N, positions, C]
        audio = self.dropout(features["audio"].mean([2, 3, 4])).unsqueeze(1)  # [N, 1, C]
        weight = self.projection.weight  # slow, fast, audio: [C, K]
        logits = F.linear(visual, weight[: self._visual]) + F.linear(audio, weight[self._visual :])
        logits = logits + self.projection.bias  # [N, positions, K]
        return logits.mean(1) if self.training else log_mean_probability(logits)


def _check_sizes(width_per_group, **betas):
    for name, value in betas.items():
        if value < 1 or width_per_group < value or width_per_group % value:
            raise ValueError(
                f"MODEL.backbone: width_per_group is {width_per_group}; it must be a multiple of {name}, {value}"
            )


def _check_stages(audio_alpha, stages):
    for name, numbers in stages.items():
        most = 5 if name == "avs_stages" else 4
        if len({*numbers}) < len(numbers) or not all(1 <= n <= most for n in numbers):
            raise ValueError(
                f"MODEL.backbone: {name} is {list(numbers)}; expected different stages, from 1 to {most}"
            )
    alone = sorted({*stages["afs_stages"]} - {*stages["fs_stages"]})
    if alone:
        raise ValueError(
            f"MODEL.backbone: afs_stages has {alone}, which fs_stages has not; sound is added to slow and fast together"
        )
    used = [AUDIO_REDUCTION[n] for n in (*stages["afs_stages"], *stages["avs_stages"])]
    if audio_alpha < 1 or any(audio_alpha % reduction for reduction in used):
        raise ValueError(
            f"MODEL.backbone: audio_alpha is {audio_alpha}; it must be a multiple of {max(used, default=1)}, by which sound is "
            "reduced at the last stage that uses it"
        )
