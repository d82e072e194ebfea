"""Every family of pipelines keeps the contract of `data.pipeline.Pipeline`."""

import inspect
from dataclasses import replace

import numpy as np
import pytest

import paddlevideo
from paddlevideo.config.schema import ConfigError
from paddlevideo.data.audio_pipeline import AudioPipeline
from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.pipeline import ClipSettings, Pipeline, StageError
from paddlevideo.data.youtube8m.pipeline import FeaturePipeline
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.sample import ClipShape, InputSpec

FAMILIES = {
    "pptsn": ClipPipeline,
    "slowfast": ClipPipeline,
    "avslowfast": ClipPipeline,
    "audio": AudioPipeline,
    "nextvlad": FeaturePipeline,
}
SPLITS = ("train", "valid", "test")
WITHOUT_CLIPS = ("audio", "nextvlad")
OTHER_ENTRIES = {"label", "id", "missing_audio"}
SHAPE = ClipShape(8, 32, (2, 2), (36, 40))
MULTIGRID_OF = "configs/recognition/slowfast/slowfast_multigrid.yaml"


@pytest.fixture(scope="module")
def configs(root):
    return {name: load_config(root / f"configs/demo/{name}.yaml") for name in FAMILIES}


@pytest.fixture(scope="module")
def pipelines(configs):
    """(config name, split) -> pipeline."""
    return {
        (name, split): build_pipeline(cfg, split)
        for name, cfg in configs.items()
        for split in SPLITS
    }


def public_names() -> list[str]:
    return [name for name in vars(Pipeline) if not name.startswith("_")]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("split", SPLITS)
def test_answers_every_attribute(pipelines, name, split):
    pipeline = pipelines[name, split]
    assert type(pipeline) is FAMILIES[name]
    for attribute in (*public_names(), *Pipeline.__annotations__):
        getattr(pipeline, attribute)
    assert isinstance(pipeline.random, bool) and (split == "train" or not pipeline.random)
    assert pipeline.num_views >= 1 and pipeline.num_clips >= 1
    assert pipeline.view_axis is (pipeline.num_views > 1)
    assert all(isinstance(suffix, str) for suffix in pipeline.suffixes)
    assert (pipeline.sample is not None) == pipeline.needs_sampler


@pytest.mark.parametrize("family", sorted({*FAMILIES.values()}, key=lambda f: f.__name__))
@pytest.mark.parametrize(
    "method", ["__call__", "synthetic", "finish", "finish_on_device", "shaped", "clip_settings"]
)
def test_keeps_the_signatures(family, method):
    expected = inspect.signature(getattr(Pipeline, method)).parameters
    assert list(inspect.signature(getattr(family, method)).parameters) == list(expected)


def assert_fits(array, spec: InputSpec, view_axis: bool):
    """Check a sample's array against a spec, whose first axis is the batch."""
    shape = spec.shape[1:]
    if view_axis:
        shape = (None, *shape)
    assert np.ndim(array) == len(shape)
    for size, expected in zip(np.shape(array), shape, strict=True):
        assert expected in (None, size)
    assert np.dtype(array.dtype) == np.dtype(spec.dtype)
    assert len(spec.axes.split()) == len(spec.shape)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("split", SPLITS)
def test_synthetic_sample_fits_batch_specs(pipelines, name, split):
    pipeline = pipelines[name, split]
    sample, specs = pipeline.synthetic(), pipeline.batch_specs
    assert set(specs) <= set(sample) <= set(specs) | OTHER_ENTRIES
    for key, spec in specs.items():
        assert_fits(sample[key], spec, pipeline.view_axis)
        if pipeline.view_axis:
            assert len(sample[key]) == pipeline.num_views
    again = pipeline.synthetic()
    for key in specs:
        assert np.array_equal(np.asarray(again[key]), np.asarray(sample[key]))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("split", SPLITS)
def test_finish_gives_the_inputs_of_the_model(configs, pipelines, name, split):
    model, pipeline = build_model(configs[name], 3), pipelines[name, split]
    sample = pipeline.synthetic()
    if pipeline.view_axis:  # the model takes one view at a time
        sample = {k: a[:1] if k in pipeline.batch_specs else a for k, a in sample.items()}
    done = pipeline.finish(dict(sample))
    assert set(model.inputs) <= set(done)
    assert model.problems_with(done, split == "train") == []
    batch = {key: np.asarray(sample[key])[None] for key in pipeline.batch_specs}
    finished_batch = pipeline.finish(batch)
    for key in model.inputs:
        assert np.array_equal(finished_batch[key][0], done[key])


@pytest.mark.parametrize("name", WITHOUT_CLIPS)
def test_rejects_a_clip_shape_without_clips(pipelines, name):
    pipeline = pipelines[name, "train"]
    family = type(pipeline).__name__
    with pytest.raises(ValueError, match=f"{family} has none; train without --multigrid"):
        pipeline.clip_settings()
    with pytest.raises(ValueError, match=f"{family} has no clip shape .* without --multigrid"):
        pipeline.shaped(SHAPE)


@pytest.mark.parametrize("name", ["slowfast", "avslowfast"])
def test_changes_the_shape_of_clips(pipelines, name):
    shaped = pipelines[name, "train"].shaped(SHAPE)
    assert shaped.clip_settings() == ClipSettings(8, 2, 32, (36, 40))
    assert shaped.synthetic()["frames"].shape == (8, 32, 32, 3)


@pytest.mark.parametrize("name", WITHOUT_CLIPS)
def test_check_reports_multigrid_without_clips_in_one_line(root, name):
    spec = load_config(root / MULTIGRID_OF).MULTIGRID
    cfg = replace(load_config(root / f"configs/demo/{name}.yaml"), MULTIGRID=spec)
    with pytest.raises(ConfigError) as caught:
        paddlevideo.check(cfg, multigrid=True)
    (line,) = str(caught.value).splitlines()
    assert line.endswith(f"{FAMILIES[name].__name__} has none; train without --multigrid")
    assert f"{name}.yaml: multigrid changes clips of frames" in line


def test_an_incomplete_family_fails_with_its_method():
    with pytest.raises(NotImplementedError):
        Pipeline().synthetic()
    assert issubclass(StageError, Exception)
