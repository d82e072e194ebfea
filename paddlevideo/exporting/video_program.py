"""A program that takes uint8 frames of videos and returns probabilities.

    frames [N, V, T, H, W, 3] --normalize--> inputs of N*V views --model--> logits [N*V, K]
    --mean over the views, softmax or sigmoid--> probabilities [N, K]

It holds what `Pipeline.finish` and the end of a prediction do in Python. Decoding, sampling and
crops stay outside.
"""

from collections.abc import Sequence

from paddle import nn

from paddlevideo.data.pipeline import Transform
from paddlevideo.models.activations import sigmoid
from paddlevideo.models.base import Recognizer


class VideoProgram(nn.Layer):
    """{"frames": uint8 [N, V, T, H, W, 3]} -> probabilities float32 [N, K].

    Args:
        model: a recognizer of frames.
        transforms: the last transforms of its PIPELINE.test, which work on a batch.
        sizes: [V, T, H, W, 3], which a program must know.
    """

    def __init__(self, model: Recognizer, transforms: Sequence[Transform], sizes: list[int]):
        super().__init__()
        self.model, self.transforms, self.sizes = model, tuple(transforms), sizes

    def forward(self, inputs):
        """See the class."""
        frames = inputs["frames"].astype("float32").reshape([-1, *self.sizes[1:]])
        clips = {"frames": frames}  # [N*V, T, H, W, 3]
        for transform in self.transforms:
            clips = transform.on_device(clips)
        logits = self.model.predictions(self.model(clips))
        logits = logits.reshape([-1, self.sizes[0], self.model.num_classes])
        if self.model.multi_label:
            return sigmoid(logits.mean(1))
        if self.model.view_average == "probabilities":
            return nn.functional.softmax(logits, -1).mean(1)
        return nn.functional.softmax(logits.mean(1), -1)
