"""AVSlowFast in training: DropPathway, embeddings, negative audio."""

import numpy as np
import paddle
import pytest

from paddlevideo.losses import synchronisation_loss
from paddlevideo.models.audiovisual import distinguishable, has_audio, keep_only, negative_order
from tests.parts.models.av_slowfast_models import (
    assert_close,
    build,
    clips,
    frozen_norms,
    scores,
    training,
    warmed_up,
)


@pytest.fixture(scope="module")
def built(built_shallow):
    return warmed_up(built_shallow(lambda: build(head={"dropout_rate": 0.0})))


@pytest.fixture
def drop(model):
    """`drop(rate, per_sample)` sets DropPathway for a test."""
    before = model.backbone.drop_pathway, model.backbone.drop_per_sample

    def change(rate, per_sample=False):
        model.backbone.drop_pathway, model.backbone.drop_per_sample = rate, per_sample

    yield change
    change(*before)


# --- DropPathway ----------------------------------------------------------------------------------


def test_evaluation_drops_no_audio(model, drop):
    found = []
    for rate in (0.0, 1.0):
        drop(rate)
        found.append(scores(model, clips()))
    np.testing.assert_array_equal(*found)


def test_a_dropped_step_uses_audio_in_the_head_only(model, drop):
    frozen_norms(model)
    batch, features = clips(), {}
    for rate in (0.0, 1.0):
        drop(rate)
        with paddle.no_grad():
            features[rate] = model.backbone(batch)[0]
    model.eval()
    with paddle.no_grad():
        silence = model.backbone(keep_only(batch, ("slow", "fast")))[0]
    assert_close(features[1.0]["slow"].numpy(), silence["slow"])
    assert np.abs((features[1.0]["slow"] - features[0.0]["slow"]).numpy()).max() > 1e-3
    np.testing.assert_array_equal(features[1.0]["audio"], features[0.0]["audio"])
    np.testing.assert_array_equal(features[1.0]["fast"], features[0.0]["fast"])


def test_draws_follow_the_seed_of_the_step(model, drop):
    """The engine seeds Paddle by (seed, epoch, step, rank), so a step always draws the same."""
    drop(0.8)
    model.train()

    def draws(seed, n=4):
        paddle.seed(seed)
        return model.backbone._draw_kept(n).numpy().reshape(-1)

    assert all(np.array_equal(draws(s), draws(s)) and len(draws(s)) == 1 for s in range(5))
    assert np.mean([draws(s) for s in range(600)]) == pytest.approx(0.2, abs=0.05)
    drop(0.8, per_sample=True)
    assert draws(0).shape == (4,) and np.mean([draws(s).std() > 0 for s in range(50)]) > 0
    drop(0.0)
    assert model.backbone._draw_kept(4) is None


# --- synchronization ------------------------------------------------------------------------------


def test_counts_only_stages_before_audio_is_added(model, drop):
    frozen_norms(model)
    batch = training(4)
    for rate, counting in ((0.0, [1, 0, 0]), (1.0, [1, 1, 1])):
        drop(rate)
        _, embeddings = model(batch)
        assert list(embeddings) == ["s3", "s4", "s5"]
        assert [float(e[3].mean()) for e in embeddings.values()] == counting
    drop(0.5, per_sample=True)
    paddle.seed(1)
    kept = model.backbone._draw_kept(4).numpy().reshape(-1)
    paddle.seed(1)
    _, embeddings = model(batch)
    assert 0 < kept.sum() < 4
    assert embeddings["s3"][3].tolist() == [1, 1, 1, 1]
    assert embeddings["s4"][3].tolist() == embeddings["s5"][3].tolist() == (1 - kept).tolist()


def test_embed_is_independent_of_the_other_modality(model, drop):
    """`embed` never adds audio to the frames, so it equals a training step that drops audio."""
    drop(1.0)
    frozen_norms(model)
    batch = training(3)
    _, trained = model(batch)
    drop(0.0)
    model.eval()
    pairs, present = model.embed(clips(3))
    assert list(pairs) == ["s3", "s4", "s5"] and present.tolist() == [[1], [1], [1]]
    for stage, found in pairs.items():
        for embedding, expected in zip(found, trained[stage][:2], strict=True):
            assert_close(
                embedding.numpy(), paddle.nn.functional.normalize(expected, axis=-1).numpy()
            )
    silenced, present = model.embed({**clips(3), "audio": clips(3)["audio"] * 0 - 1})
    assert present.tolist() == [[0], [0], [0]]
    for stage in pairs:
        assert_close(silenced[stage][0].numpy(), pairs[stage][0].numpy())
        assert np.abs((silenced[stage][1] - pairs[stage][1]).numpy()).max() > 1e-3


def test_logits_and_losses_do_not_depend_on_the_batch(model, drop):
    """All negatives are hard here: each clip has that of its own video."""
    drop(1.0)
    frozen_norms(model)
    batch = training(4, epoch=96)
    share, model.hard_share = model.hard_share, 1.0
    try:
        logits, embeddings = model(batch)
        parts = [
            model({n: x if n == "epoch" else x[i : i + 1] for n, x in batch.items()})
            for i in range(4)
        ]
    finally:
        model.hard_share = share
    assert_close(logits.numpy(), paddle.concat([part[0] for part in parts]))
    for stage in embeddings:
        losses = [float(synchronisation_loss(*part[1][stage])) for part in parts]
        assert float(synchronisation_loss(*embeddings[stage])) == pytest.approx(
            np.mean(losses), rel=1e-4
        )
        assert np.std(losses) > 0


def test_negative_audio_follows_negative_order(model, drop):
    drop(1.0)
    frozen_norms(model)
    batch = training(4)
    with paddle.no_grad():
        easy = model(batch)[1]["s4"]
        mixed = model({**batch, "epoch": 96})[1]["s4"]
        own = [
            model({**{n: x[i : i + 1] for n, x in batch.items() if n != "epoch"}, "epoch": 0})[1][
                "s4"
            ]
            for i in range(4)
        ]
    negatives = paddle.concat([part[2] for part in own]).numpy()
    assert_close(easy[2].numpy(), negatives[[1, 2, 3, 0]])
    assert_close(mixed[2].numpy(), negatives[[1, 2, 0, 3]])
    assert_close(easy[1].numpy(), paddle.concat([part[1] for part in own]))


@pytest.mark.parametrize(
    ("num_clips", "share", "order"),
    [
        (4, 0.0, [1, 2, 3, 0]),
        (8, 0.25, [1, 2, 3, 4, 5, 0, 6, 7]),
        (1, 0.0, [0]),
        (2, 0.25, [0, 1]),
        (3, 1.0, [0, 1, 2]),
    ],
)
def test_negative_order(num_clips, share, order):
    assert negative_order(num_clips, share) == order


def test_ignores_pairs_that_cannot_be_distinguished(model):
    model.train()
    batch = training(5)
    audio, negative = (batch[name].numpy() for name in ("audio", "audio_negative"))
    audio[0] = 0.3  # silence
    negative[2] *= 0.05  # the next clip's negative audio is almost silent
    negative[4] = audio[3] * 2  # clip 3 gets it: its own audio, but louder
    batch.update(audio=paddle.to_tensor(audio), audio_negative=paddle.to_tensor(negative))
    assert model(batch)[1]["s3"][3].tolist() == [0, 0, 1, 0, 1]


def test_has_audio_by_variance():
    rng = np.random.default_rng(0).standard_normal((3, 1, 128, 80)).astype("float32")
    rng *= np.reshape([1, 0.11, 0.09], (3, 1, 1, 1)) / rng.std(axis=(1, 2, 3), keepdims=True)
    assert has_audio(paddle.to_tensor(rng + 7)).tolist() == [1, 1, 0]
    x = paddle.to_tensor(rng)
    assert distinguishable(x[:1], -x[:1]).tolist() == [1]
    assert distinguishable(x[:1], x[:1]).tolist() == [0]


def test_step_without_negative_audio_has_no_embeddings(model):
    model.train()
    logits, embeddings = model(clips())
    assert logits.shape == [2, 5] and embeddings == {}
    assert model.predictions((logits, embeddings)) is logits
    model.eval()
    assert model(training(2)).shape == [2, 5]


def test_linear_probe_does_not_change_the_backbone():
    model = build(train_backbone=False)
    before = {name: x.numpy() for name, x in model.backbone.state_dict().items()}
    model.train()
    model.predictions(model(training(2))).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is not None] == [
        "head.projection.weight",
        "head.projection.bias",
    ]
    for name, x in model.backbone.state_dict().items():
        np.testing.assert_array_equal(x, before[name])
    assert model.train_inputs == ("slow", "fast", "audio")
