"""The layers of AVSlowFast's audio pathway and of its fusion with the visual pathways.

Paper: Xiao et al. 2020, "Audiovisual SlowFast Networks for Video Recognition", section 3.
Shapes: audio features are [N, C, 1, T, F] with T time steps and F frequencies of the log-mel
spectrogram, so that the 3-D convolutions of `slowfast` apply.
"""

import paddle
from paddle import nn

from paddlevideo.models.slowfast import Lateral, conv, norm, relu

LATERAL_CHANNELS = 64  # between the two convolutions from audio to slow
SYNC_CHANNELS = 64  # of the embeddings of the synchronization loss


class AudioStem(nn.Layer):
    """9x1 convolution over time plus 1x9 over frequency, without stride."""

    def __init__(self, out_channels):
        super().__init__()
        self.conv_t = conv(1, out_channels, (1, 9, 1))
        self.conv_f = conv(1, out_channels, (1, 1, 9))
        self._bn = norm(out_channels, 1)

    def forward(self, x):
        return relu(self._bn(self.conv_t(x) + self.conv_f(x)))  # [N, C, 1, T, F]


class TimeFrequencyBranch(nn.Layer):
    """The residual branch of an early block: 3x1 over time and 1x3 over frequency, then 1x1.

    The first two run in parallel, both with the stride.
    """

    def __init__(self, in_channels, width, out_channels, stride):
        super().__init__()
        self.t = conv(in_channels, width, (1, 3, 1), (1, stride, stride))
        self.t_bn = norm(width, 1)
        self.f = conv(in_channels, width, (1, 1, 3), (1, stride, stride))
        self.f_bn = norm(width, 1)
        self.out = conv(2 * width, out_channels, (1, 1, 1))
        self.out_bn = norm(out_channels, 1, scale=0.0)  # a block starts as its shortcut

    def forward(self, x):
        time, frequency = relu(self.t_bn(self.t(x))), relu(self.f_bn(self.f(x)))
        x = paddle.concat([time, frequency], axis=1)  # [N, 2*width, 1, T/stride, F/stride]
        return self.out_bn(self.out(x))


class TimeFrequencyBlock(nn.Layer):
    """Early block of the audio pathway; the first block of a stage projects its shortcut."""

    def __init__(self, in_channels, width, out_channels, stride):
        super().__init__()
        self._project = in_channels != out_channels or stride != 1
        if self._project:
            self.branch1 = conv(in_channels, out_channels, (1, 1, 1), (1, stride, stride))
            self.branch1_bn = norm(out_channels, 1)
        self.branch2 = TimeFrequencyBranch(in_channels, width, out_channels, stride)

    @paddle.jit.not_to_static
    def forward(self, x):
        shortcut = self.branch1_bn(self.branch1(x)) if self._project else x
        return relu(shortcut + self.branch2(x))


class AudioLateral(nn.Layer):
    """Audio to slow: mean over frequency, then two convolutions over time.

    The stride of the second one leaves one time step per slow frame.
    """

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.conv0 = conv(in_channels, LATERAL_CHANNELS, (1, 5, 1))
        self.bn0 = norm(LATERAL_CHANNELS, 1)
        self.conv1 = conv(LATERAL_CHANNELS, out_channels, (1, 5, 1), (1, stride, 1))
        self.bn1 = norm(out_channels, 1)

    def forward(self, x):
        x = relu(self.bn0(self.conv0(x.mean(4, keepdim=True))))
        x = relu(self.bn1(self.conv1(x)))  # [N, C, 1, T/stride, 1]
        return x.transpose([0, 1, 3, 2, 4])  # [N, C, T/stride, 1, 1], aligned with slow frames


class SyncProjection(nn.Layer):
    """Embeddings for the synchronization loss: one projection for frames, one for audio."""

    def __init__(self, channels):
        super().__init__()
        self.ref_fc = nn.Linear(channels, SYNC_CHANNELS)
        self.query_fc = nn.Linear(channels, SYNC_CHANNELS)

    def forward(self, visual, audio):
        """Features -> embeddings [N, SYNC_CHANNELS] of the frames, their audio, the negative audio.

        Args:
            visual: [N, C, T, H, W].
            audio: [2N, C, T, 1, 1], the clips' own audio followed by the negative audio.
        """
        num_clips = visual.shape[0]
        queries = self.query_fc(audio.mean([2, 3, 4]))
        return self.ref_fc(visual.mean([2, 3, 4])), queries[:num_clips], queries[num_clips:]


class Junction(nn.Layer):
    """Fusion between two stages: fast and audio into slow, and embeddings before audio is added.

    Args:
        channels: of each pathway.
        fast_to_slow: output channels, kernel size in frames, and alpha of the lateral convolution.
        audio_stride: time steps of audio per slow frame.
        fs, afs, avs: whether fast joins slow, audio is added, embeddings are computed.
    """

    def __init__(self, channels, fast_to_slow, audio_stride, fs, afs, avs):
        super().__init__()
        lateral_channels, num_frames, alpha = fast_to_slow
        self.fs, self.afs = fs, afs
        self.f2s = Lateral(channels["fast"], lateral_channels, num_frames, alpha, 1)
        width = channels["slow"] + lateral_channels
        self.a2fs = AudioLateral(channels["audio"], width, audio_stride) if afs or avs else None
        self.avs = SyncProjection(width) if avs else None

    def forward(self, features, audio_weight, with_negative):
        """Fuse the pathways.

        Args:
            features: by pathway; `audio` is [2N, ...] with own and negative audio where
                `with_negative`, otherwise [N, ...].
            audio_weight: [N, 1, 1, 1, 1] or [1, 1, 1, 1, 1], 1 where audio is added, otherwise 0.
            with_negative: whether to compute embeddings.

        Returns:
            (features, the three embeddings or None).
        """
        slow = self.f2s(features)["slow"]  # [N, slow + lateral channels, T, H, W]
        embeddings = None
        sync = self.avs if with_negative else None
        if self.a2fs is not None and (self.afs or sync is not None):
            audio = self.a2fs(features["audio"])
            if sync is not None:
                embeddings = sync(slow, audio)
            if self.afs:
                own = audio[: slow.shape[0]] if with_negative else audio
                slow = slow + own * audio_weight.astype(own.dtype)
        return {**features, "slow": slow} if self.fs else features, embeddings
