"""What a config's phases mean for data and model; the plan itself is tested in test_multigrid.py."""

import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.data.datasets import RecordList
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.engine.phases import baseline_of, batch_shapes, clip_shapes, order_of, phases_of
from paddlevideo.engine.preflight import preflight
from paddlevideo.sample import BatchShape, ClipShape, Record
from paddlevideo.solver.phases import BaselineRun, steps_per_epoch

SMALL = ["MODEL.backbone.width_per_group=8", "MODEL.head.width_per_group=8"]


@pytest.fixture
def cfg(root, monkeypatch):
    monkeypatch.chdir(root)
    return load_config("configs/recognition/slowfast/slowfast_multigrid.yaml", SMALL)


def found(cfg, multigrid=True):
    return phases_of(cfg, cfg.OPTIMIZER.make().learning_rate, build_model(cfg, 400), multigrid)


def test_the_plain_run_is_read_from_the_pipeline(cfg, small):
    assert baseline_of(cfg, build_pipeline(cfg, "train")) == BaselineRun(239, 8, 32, 224, 2, (256, 320))
    flat = small()
    assert baseline_of(flat, build_pipeline(flat, "train")) == BaselineRun(2, 3, 2), (
        "segments have no rate, other crops no shape"
    )


def test_a_plain_run_is_one_phase_that_leaves_clips_alone(cfg):
    phases, rule = found(cfg, multigrid=False)
    assert len(phases) == 1 and rule.max_epoch == 239
    assert batch_shapes(phases[0]) == (BatchShape(8),) and clip_shapes(phases) == []


def test_shapes_of_a_plan(cfg):
    phases, rule = found(cfg)
    assert len(phases) == 14 and phases[-1].end == rule.max_epoch == 358
    assert batch_shapes(phases[2]) == (
        BatchShape(64, ClipShape(16, 112, (2, 4), (128, 320))),
        BatchShape(32, ClipShape(16, 158, (2, 4), (181, 320))),
        BatchShape(16, ClipShape(16, 224, (2, 4), (256, 320))),
    )
    assert len(clip_shapes(phases)) == 8
    records = RecordList([Record(str(number), 0) for number in range(1000)])
    order = order_of(cfg, phases[2], records)
    assert len(order) == steps_per_epoch(phases[2], 1000) == 26
    assert (
        order_of(cfg, phases[2], records, short_cycle=False).cycle == batch_shapes(phases[2])[-1:]
    )


def test_a_shaped_pipeline_gives_the_shape(cfg):
    pipeline = build_pipeline(cfg, "train").shaped(ClipShape(8, 112, (2, 8), (128, 160)))
    assert pipeline.synthetic()["frames"].shape == (8, 112, 112, 3)
    assert (pipeline.sample.sampling_rate, pipeline.sample.max_sampling_rate) == (2, 8)
    assert (
        build_pipeline(cfg, "train")
        .shaped(ClipShape(32, 224, (2, 2), (256, 320)))
        .sample.max_sampling_rate
        is None
    )


def test_a_pipeline_that_cannot_follow_is_refused(root, monkeypatch):
    monkeypatch.chdir(root)
    wrong = ["PIPELINE.train.transform=[{JitterScale: {min_size: 64, max_size: 72}}, {RandomCrop: {target_size: 64}}, "
             "{CenterCrop: {target_size: 32}}, {Image2Array: {transpose: False}}, {PackOutput: {alpha: 4}}]"]  # fmt: skip
    cfg = load_config("configs/demo/slowfast.yaml", wrong)
    phases, _ = found(cfg)
    with pytest.raises(
        ConfigError, match=r"PIPELINE.train (gives|fails) .*which MULTIGRID asks for"
    ):
        preflight(cfg, build_model(cfg, 4), ("train",), clip_shapes(phases))


def test_a_network_without_sub_batch_norm_is_refused(root, monkeypatch, small):
    monkeypatch.chdir(root)
    cfg = load_config("configs/demo/slowfast.yaml")
    flat = small()
    with pytest.raises(
        ConfigError,
        match=r"normalizes batches in 7 parts, which Recognizer3D cannot.*ResNetSlowFast",
    ):
        phases_of(cfg, cfg.OPTIMIZER.make().learning_rate, build_model(flat, 3), True)


def test_the_keys_of_paddlevideo_s_file_are_read(root, monkeypatch, tmp_path):
    """Its sizes stand in the section too, and its transforms repeat what the plan says now."""
    monkeypatch.chdir(root)
    shipped = load_config("configs/recognition/slowfast/slowfast_multigrid.yaml", SMALL)
    cycle = "[0.5, 0.7071]"
    theirs = load_config(
        "configs/recognition/slowfast/slowfast_multigrid.yaml",
        [
            *SMALL,
            "MULTIGRID.default_batch_size=8",
            "MULTIGRID.default_temporal_size=32",
            "MULTIGRID.default_crop_size=224",
            "PIPELINE.train.decode_sampler.default_sampling_rate=2",
            f"PIPELINE.train.transform.0.JitterScale.short_cycle_factors={cycle}",
            "PIPELINE.train.transform.0.JitterScale.default_min_size=256",
            f"PIPELINE.train.transform.1.MultiCrop={{target_size: 224, short_cycle_factors: {cycle}, default_crop_size: 224}}",
            "OPTIMIZER.learning_rate.reference_batch_size=null",
        ],
    )
    assert found(theirs)[0] == found(shipped)[0]
    rates = [rule(200.5) for rule in (found(theirs)[1], found(shipped)[1])]
    assert rates[0] == rates[1] == pytest.approx(0.08)
