"""Models of audio, of frames with audio, and of frame features, over HTTP."""

import numpy as np
import pytest

from paddlevideo.curate.demo_shards import ShardPlan, make_shards
from paddlevideo.engine.build import load_config
from paddlevideo.predict.predictor import Predictor
from tests.parts.predict.families import (
    CONFIGS,
    NUM_CLASSES,
    WIDTHS,
    list_of,
    make_data,
    write_weights,
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """{name: (folder of its data, predictor)}, without exports, which take long."""
    found = {}
    for name in ("tags", "audio", "both"):
        folder = tmp_path_factory.mktemp(name)
        make_data(name, folder)
        config = folder / "config.yaml"
        config.write_text(CONFIGS[name].replace("LIST", str(list_of(name, folder))))
        cfg = load_config(config)
        weights = write_weights(cfg, folder / "w.pdparams")
        found[name] = folder / "data", Predictor(None, cfg, weights, device="cpu", threads=1)
    return found


def assert_answer(answer, predictor, path):
    [expected] = predictor.predict(str(path), topk=NUM_CLASSES, workers=0)
    assert expected.error is None, expected.error
    best = answer.result["categories"]
    assert [each["id"] for each in best] == expected.class_ids
    assert [each["score"] for each in best] == pytest.approx(expected.scores, abs=1e-5)
    assert answer.result.get("note", "") == expected.note


@pytest.mark.slow
def test_every_family(serve, opened, tmp_path):
    plan = ShardPlan(
        classes=NUM_CLASSES, videos=3, per_shard=1, frames=(5, 12), features=tuple(WIDTHS.items())
    )
    make_shards(tmp_path / "shards", plan)
    files = {
        "tags": sorted((tmp_path / "shards").glob("*.tfrecord"))[:1],
        "audio": sorted(opened["audio"][0].iterdir()),
        "both": sorted(opened["both"][0].rglob("*.m*")),
    }
    predictors = {name: predictor for name, (_, predictor) in opened.items()}
    with serve(models=predictors) as client:
        described = {model["name"]: model for model in client.get("/models").json["models"]}
        assert [described[name]["modalities"] for name in files] == [
            ["features"],
            ["audio"],
            ["frames", "audio"],
        ]
        assert [described[name]["task"] for name in files] == [
            "feature-tagging",
            "audio-classification",
            "video-classification",
        ]
        for name, paths in files.items():
            assert paths
            for path in paths:
                answer = client.post(
                    path, name=path.name, model=name, topk=NUM_CLASSES, details=1, frames=1
                )
                assert_answer(answer, predictors[name], path)
                assert bool(answer.result["frames"]) == (name == "both")
        shards = opened["tags"][0]
        many = client.post(next(shards.glob("*.tfrecord")), name="a.tfrecord", model="tags")
        assert many.status == 422 and "records; send one with a single record" in many.reason
        video = client.post(files["both"][0], model="tags")
        assert video.status == 422
        assert (
            client.post(files["tags"][0], "/timeline", name="a.tfrecord", model="tags").status
            == 422
        )
        assert client.post(files["audio"][-1], "/timeline", model="audio").status in (200, 422)
        noise = np.random.default_rng(0).bytes(1000)
        for name in files:
            for suffix in (".mp4", ".npy", ".tfrecord", ".pkl", ".wav"):
                answer = client.post(noise, name=f"a{suffix}", model=name)
                assert answer.status == 422, (name, suffix, answer.body)
