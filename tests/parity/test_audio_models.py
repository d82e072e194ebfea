"""Audio recognizers against MMAction2's names, costs and logits."""

import math

import numpy as np
import paddle
import pytest

from paddlevideo.models.audio_resnet import AudioRecognizer, AudioResNet, ResNetAudio, TSNAudioHead
from tests.initial_values import zeros_as_initial_values
from tests.parity.audio_reference import close, counted, fill

BACKBONES = {
    "tsn_r18_audio": (AudioResNet, 18),
    "tsn_r50_audio": (AudioResNet, 50),
    "resnetaudio_r50": (ResNetAudio, 50),
}


def build(name: str, average_clips="prob") -> AudioRecognizer:
    backbone, depth = BACKBONES[name]
    with zeros_as_initial_values():
        return AudioRecognizer(backbone(depth), TSNAudioHead(400), average_clips)


@pytest.mark.parametrize(
    "name", ["tsn_r18_audio", pytest.param("resnetaudio_r50", marks=pytest.mark.slow)]
)
def test_features_logits_and_averages(goldens, name):
    golden = np.load(goldens / "audio" / f"golden_mmaction2_{name}.npz")
    model = build(name)
    fill(goldens, model, f"mmaction2_{name}", "mmaction2")
    model.eval()
    x = np.random.default_rng(0).random(tuple(golden["input_shape"])).astype("float32")
    assert x.sum(dtype="float64") == pytest.approx(float(golden["input_sum"]))
    x = paddle.to_tensor(x)
    with paddle.no_grad():
        features = model.backbone(x.flatten(0, 1))
        log_p = model({"audio": x}).numpy()
        # Shares the backbone, and re-initializes the classifier.
        score = AudioRecognizer(model.backbone, model.head, "score")
        fill(goldens, score, f"mmaction2_{name}", "mmaction2")
        score.eval()
        mean = score({"audio": x}).numpy()
        logits = score.head(features).numpy()
    assert features.shape == list(golden["feat_shape"])
    close(features.mean([2, 3]).numpy(), golden["feat_mean_c"])
    close(features[0, :4].numpy(), golden["feat_first"])
    close(logits, golden["logits"])
    close(mean, golden["avg_score"])
    # Logits differ by hundreds, so the softmax amplifies rounding.
    close(np.exp(log_p), golden["avg_prob"], share=1e-4)


@pytest.mark.parametrize(
    ("name", "features", "giga"),
    [
        ("tsn_r18_audio", [512, 4, 3], "0.372"),
        ("tsn_r50_audio", [2048, 4, 3], "0.852"),
        ("resnetaudio_r50", [1024, 16, 10], "3.358"),
    ],
)
def test_names_and_cost(goldens, name, features, giga):
    model = build(name)
    fill(goldens, model, f"mmaction2_{name}", "mmaction2")
    model.eval()
    with counted() as multiplications:
        found = model.backbone(paddle.zeros([1, 1, 128, 80]))
    assert found.shape == [1, *features]
    pooling, classifier = math.prod(features), 400 * features[0]
    total = sum(multiplications.values()) + pooling + classifier
    assert f"{total / 1e9:.3f}" == giga
