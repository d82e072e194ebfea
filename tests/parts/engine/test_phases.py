"""The phases of a config, their clips and batches; tests/parts/solver tests the plan itself."""

from dataclasses import replace

import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.data.datasets import RecordList
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.engine.describe import describe
from paddlevideo.engine.phases import baseline_of, batch_shapes, clip_shapes, order_of, phases_of
from paddlevideo.engine.preflight import preflight
from paddlevideo.sample import BatchShape, ClipShape, Record
from paddlevideo.solver.phases import BaselineRun, steps_per_epoch

SMALL = ["MODEL.backbone.width_per_group=8", "MODEL.head.width_per_group=8"]


@pytest.fixture
def cfg(root, monkeypatch):
    monkeypatch.chdir(root)
    return load_config("configs/recognition/slowfast/slowfast_multigrid.yaml", SMALL)


def plan(cfg, multigrid=True):
    """(phases, learning-rate schedule) of a config."""
    return phases_of(cfg, cfg.OPTIMIZER.make().learning_rate, build_model(cfg, 400), multigrid)


def test_reads_the_plain_run_from_the_pipeline(cfg, small):
    baseline = baseline_of(cfg, build_pipeline(cfg, "train"))
    assert baseline == BaselineRun(239, 8, 32, 224, 2, (256, 320))
    # Segments have no sampling rate, and the crops of a 2D config have no clip shape.
    config_2d = small()
    assert baseline_of(config_2d, build_pipeline(config_2d, "train")) == BaselineRun(2, 3, 2)


def test_a_plain_run_has_one_phase_and_no_clip_shapes(cfg):
    phases, rule = plan(cfg, multigrid=False)
    assert len(phases) == 1 and rule.max_epoch == 239
    assert batch_shapes(phases[0]) == (BatchShape(8),) and clip_shapes(phases) == []


def test_shapes_of_a_plan(cfg):
    phases, rule = plan(cfg)
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
    order = order_of(cfg, phases[2], records, short_cycle=False)
    assert order.cycle == batch_shapes(phases[2])[-1:]


def test_a_shaped_pipeline_gives_clips_of_the_shape(cfg):
    pipeline = build_pipeline(cfg, "train").shaped(ClipShape(8, 112, (2, 8), (128, 160)))
    assert pipeline.synthetic()["frames"].shape == (8, 112, 112, 3)
    assert (pipeline.sample.sampling_rate, pipeline.sample.max_sampling_rate) == (2, 8)
    pipeline = build_pipeline(cfg, "train").shaped(ClipShape(32, 224, (2, 2), (256, 320)))
    assert pipeline.sample.max_sampling_rate is None


def test_rejects_a_pipeline_that_ignores_the_shape(root, monkeypatch):
    monkeypatch.chdir(root)
    transforms = (
        "{JitterScale: {min_size: 64, max_size: 72}}",
        "{RandomCrop: {target_size: 64}}",
        "{CenterCrop: {target_size: 32}}",
        "{Image2Array: {transpose: False}}",
        "{PackOutput: {alpha: 4}}",
    )
    override = f"PIPELINE.train.transform=[{', '.join(transforms)}]"
    cfg = load_config("configs/demo/slowfast.yaml", [override])
    phases, _ = plan(cfg)
    with pytest.raises(
        ConfigError, match=r"PIPELINE.train (gives|fails) .*which MULTIGRID asks for"
    ):
        preflight(cfg, build_model(cfg, 4), ("train",), clip_shapes(phases))


def test_rejects_a_network_without_sub_batch_norm(root, monkeypatch, small):
    monkeypatch.chdir(root)
    cfg = load_config("configs/demo/slowfast.yaml")
    model = build_model(small(), 3)
    message = r"normalizes batches in 7 parts, which Recognizer3D cannot.*ResNetSlowFast"
    with pytest.raises(ConfigError, match=message):
        phases_of(cfg, cfg.OPTIMIZER.make().learning_rate, model, True)


def test_reads_the_keys_of_paddlevideo(root, monkeypatch, tmp_path):
    """Its config repeats sizes in the section and in the transforms."""
    monkeypatch.chdir(root)
    shipped = load_config("configs/recognition/slowfast/slowfast_multigrid.yaml", SMALL)
    cycle = "[0.5, 0.7071]"
    crop = f"{{target_size: 224, short_cycle_factors: {cycle}, default_crop_size: 224}}"
    overrides = [
        "MULTIGRID.default_batch_size=8",
        "MULTIGRID.default_temporal_size=32",
        "MULTIGRID.default_crop_size=224",
        "PIPELINE.train.decode_sampler.default_sampling_rate=2",
        f"PIPELINE.train.transform.0.JitterScale.short_cycle_factors={cycle}",
        "PIPELINE.train.transform.0.JitterScale.default_min_size=256",
        f"PIPELINE.train.transform.1.MultiCrop={crop}",
        "OPTIMIZER.learning_rate.reference_batch_size=null",
    ]
    paddlevideo = load_config(
        "configs/recognition/slowfast/slowfast_multigrid.yaml", [*SMALL, *overrides]
    )
    assert plan(paddlevideo)[0] == plan(shipped)[0]
    rates = [rule(200.5) for rule in (plan(paddlevideo)[1], plan(shipped)[1])]
    assert rates[0] == rates[1] == pytest.approx(0.08)


@pytest.mark.parametrize("long_cycle", [True, False])
def test_multigrid_needs_a_learning_rate(cfg, long_cycle):
    changes = [*SMALL, f"MULTIGRID.LONG_CYCLE={long_cycle}"]
    cfg = replace(load_config(cfg.origin.path, changes), OPTIMIZER=None)
    with pytest.raises(ConfigError, match="OPTIMIZER is missing; --multigrid changes its learning"):
        describe(cfg, multigrid=True)
