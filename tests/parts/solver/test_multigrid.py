"""The multigrid plan: long and short cycles, learning rates, rejected configs, any valid plan."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlevideo.solver.lr import (
    ConstantDecay,
    CosineAnnealingDecay,
    CustomWarmupCosineDecay,
    PiecewiseDecay,
)
from paddlevideo.solver.multigrid import learning_rate, plan
from paddlevideo.solver.phases import (
    BaselineRun,
    Phase,
    cost_reduction,
    relative_cost,
    steps_per_epoch,
)
from tests.parts.solver.slowfast_multigrid import BASELINE, HALF, RULE, section, shape_of

# --- the cycles -------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [None, section(LONG_CYCLE=False, SHORT_CYCLE=False)])
def test_without_cycles_the_baseline_is_one_phase(spec):
    (phase,) = plan(spec, BASELINE, RULE)
    assert phase == Phase(0, 239, 8, 32, 224, (2, 2), (256, 320), BASELINE)
    assert learning_rate(spec, RULE, [phase]) is RULE
    assert shape_of(5, phase) == (224, 8, (256, 320))
    assert relative_cost(phase) == cost_reduction([phase]) == 1.0


def test_short_cycle_alone():
    spec = section(LONG_CYCLE=False)
    (phase,) = plan(spec, BASELINE, RULE)
    assert (phase.first, phase.end, phase.bn_splits, phase.stride) == (0, 358, 1, (2, 2))
    assert [shape_of(step, phase) for step in range(4)] == [
        (112, 32, (128, 320)),
        (158, 16, (181, 320)),
        (224, 8, (256, 320)),
        (112, 32, (128, 320)),
    ]
    assert cost_reduction([phase]) == pytest.approx(1.56, abs=0.005)
    rate = learning_rate(spec, RULE, [phase])
    assert (rate.steps, rate.max_epoch, rate.warmup_epochs) == ([0, 141, 231, 294], 358, 34)
    assert [rate(e) for e in (0.0, 34.0, 141.0, 300.0)] == pytest.approx([0.01, 0.1, 0.01, 1e-4])


@pytest.mark.parametrize("short", [False, True])
def test_long_cycle(short):
    phases = plan(section(SHORT_CYCLE=short), BASELINE, RULE, frames_multiple=4)
    assert [(p.num_frames, p.crop_size, p.batch_size) for p in phases[:4]] == [
        (8, 158, 64),
        (16, 158, 32),
        (16, 224, 16),
        (32, 224, 8),
    ]
    assert [p.stride for p in phases[:4]] == [(2, 8), (2, 4), (2, 4), (2, 2)]
    assert [p.jitter for p in phases[:4]] == [(181, 320), (181, 320), (256, 320), (256, 320)]
    assert [p.bn_splits for p in phases[:4]] == [8, 4, 2, 1]
    assert all(len(p.cycle) == (3 if short else 1) for p in phases)
    assert cost_reduction(phases) == pytest.approx(3.43 if short else 2.20, abs=0.01)


def test_the_last_stage_splits_its_epochs_between_two_rates():
    *_, before, first, second = plan(section(), BASELINE, RULE)
    assert (before.first, first.first, second.first, second.end) == (322, 329, 343, 358)
    assert [p.lr_scale for p in (before, first, second)] == pytest.approx([0.01, 0.01, 0.001])
    same = {"first": 0, "end": 1, "lr_scale": 1, "evaluate": ()}
    assert replace(first, **same) == replace(second, **same)


def test_there_is_no_last_stage_without_epochs_after_the_last_step():
    rule = replace(RULE, max_epoch=196)
    phases = plan(section(), replace(BASELINE, epochs=196), rule)
    assert len(phases) == 12 and phases[-1].end == 294 and phases[-1].crop_size == 224


def test_factors_may_be_pairs_without_a_key():
    pairs = [[0.25, HALF], [0.5, HALF], [0.5, 1], [1, 1]]
    with_keys = plan(section(), BASELINE, RULE)
    assert plan(section(long_cycle_factors=pairs), BASELINE, RULE) == with_keys


def test_a_crop_of_the_short_cycle_is_not_larger_than_its_phase():
    spec = section(long_cycle_factors=[[1, 0.5], [1, 1]])
    cycle = plan(spec, BASELINE, RULE)[0].cycle
    assert [shape.crop_size for shape in cycle] == [112, 112, 112]
    assert {shape.batch_size for shape in cycle} == {32}


def test_follow_release_repeats_paddlevideo_s_numbers():
    release, paper = (plan(section(follow_release=on), BASELINE, RULE) for on in (True, False))
    assert {p.stride for p in release} == {(2, 2)}
    assert [s.jitter for s in release[0].cycle] == [(128, 320), (181, 320), (256, 320)]
    assert [s.jitter for s in paper[0].cycle] == [(128, 320), (181, 320), (181, 320)]
    assert [p.batch_size for p in release] == [p.batch_size for p in paper]
    rule = replace(RULE, reference_batch_size=64)
    rate = learning_rate(section(follow_release=True), rule, release)
    assert rate.reference_batch_size is None
    assert learning_rate(section(), rule, paper).reference_batch_size == 64


def test_the_section_gives_sizes_that_the_config_lacks():
    spec = section(default_batch_size=8, default_temporal_size=32, default_crop_size=224)
    gaps = replace(BASELINE, batch_size=0, num_frames=None, crop_size=None)
    assert plan(spec, gaps, RULE) == plan(section(), BASELINE, RULE)


def test_the_stride_can_be_limited():
    phases = plan(section(long_cycle_sampling_rate=3), BASELINE, RULE)
    assert {p.stride[1] for p in phases} == {2, 3}


# --- the learning rate ------------------------------------------------------------------------


def test_the_rate_follows_the_batch_size_after_a_warm_up():
    spec = section()
    phases = plan(spec, BASELINE, RULE)
    rate = learning_rate(spec, RULE, phases)
    assert rate(0.0) == 0.01
    assert [rate(17.0), rate(34.0)] == pytest.approx([(0.01 + 0.8) / 2, 0.8])
    for phase in phases[1:]:
        assert rate(phase.first) == rate(phase.end - 1e-9) == pytest.approx(0.1 * phase.lr_scale)


def test_a_short_cycle_stretches_every_rule():
    spec = section(LONG_CYCLE=False)

    def stretched(rule):
        return learning_rate(spec, rule, plan(spec, BASELINE, rule))

    cosine = CustomWarmupCosineDecay(
        max_epoch=239, warmup_epochs=34, warmup_start_lr=0.01, cosine_base_lr=0.1
    )
    assert stretched(cosine).max_epoch == 358
    pieces = PiecewiseDecay(boundaries=[40, 81], values=[1.0, 0.1, 0.01])
    assert stretched(pieces).boundaries == [60, 121]
    assert stretched(CosineAnnealingDecay(learning_rate=0.1, T_max=100)).T_max == 150
    assert stretched(ConstantDecay(0.1)) == ConstantDecay(0.1)


# --- rejected configs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size": 225}, "even crop size, but the crop is 225; use 224 or 226"),
        (
            {"crop_size": 112},
            r"long_cycle_factors.0: 0.7071 of a crop of 112 pixels gives 79, .*; 0.71 gives 80",
        ),
        (
            {"num_frames": 36},
            r"factors.0: 0.25 of 36 frames is 9, expected a multiple of 4 .*use 0.22",
        ),
        ({"num_frames": 30}, "30 frames, expected a multiple of 4, the model's alpha"),
        (
            {"batch_size": 7},
            r"batch of 56 clips \(16 frames x 112\).* 3 equal groups .*set bn_base_size to 7",
        ),
        (
            {"num_frames": None},
            "needs PIPELINE.train.decode_sampler.num_frames.*set MULTIGRID.default_temporal_size",
        ),
        ({"crop_size": None}, "set MULTIGRID.default_crop_size"),
        ({"jitter": None}, "PIPELINE.train needs a JitterScale"),
        ({"sampling_rate": None}, "PIPELINE.train needs a decode_sampler with a sampling_rate"),
        ({"epochs": 20}, "epochs is 20, .* max_epoch 239"),
    ],
)
def test_rejects_a_baseline_that_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(section(), replace(BASELINE, **changes), RULE, frames_multiple=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"default_batch_size": 16},
            "default_batch_size is 16, but DATASET.batch_size is 8; "
            "set MULTIGRID.default_batch_size to 0, which uses 8",
        ),
        ({"long_cycle_factors": [[0.5, 1]]}, r"must end with \[1, 1\]"),
        ({"long_cycle_factors": []}, r"must end with \[1, 1\]"),
        (
            {"long_cycle_factors": [[2, 1], [1, 1]]},
            r"long_cycle_factors.0 is \[2, 1\], expected \[t, s\]",
        ),
        (
            {"long_cycle_factors": [0.5, [1, 1]]},
            r"long_cycle_factors.0 is 0.5, expected \[t, s\]",
        ),
        ({"short_cycle_factors": [0]}, "short_cycle_factors.0 is 0, expected a factor on the crop"),
        ({"epoch_factor": 0}, "epoch_factor is 0, expected more than 0"),
        ({"bn_base_size": 0}, "bn_base_size is 0, expected more than 0"),
        (
            {"long_cycle_sampling_rate": 1},
            "long_cycle_sampling_rate is 1, below the sampling_rate 2",
        ),
    ],
)
def test_rejects_a_section_that_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(section(**changes), BASELINE, RULE, frames_multiple=4)


def test_rejects_an_odd_crop_of_the_short_cycle():
    message = r"short_cycle_factors.1: 0.7071 of a crop of 64 pixels gives 45, .* 46"
    with pytest.raises(ValueError, match=message):
        plan(section(LONG_CYCLE=False), replace(BASELINE, crop_size=64), RULE)


def test_rejects_follow_release_at_other_sizes():
    baseline = replace(BASELINE, crop_size=112, jitter=(128, 160))
    message = "needs crop 224 and short side 256, .* this config has 112 and 128"
    with pytest.raises(ValueError, match=message):
        plan(section(follow_release=True), baseline, RULE)


def test_rejects_a_schedule_too_short_for_its_phases():
    short = replace(RULE, steps=[0, 4, 7, 8], max_epoch=9, warmup_epochs=1)
    message = r"phase \d+ of 13 \(.*\) gets no epoch of the 13; .* to about (\d+)"
    with pytest.raises(ValueError, match=message) as caught:
        plan(section(), replace(BASELINE, epochs=9), short)
    # The proposed number of epochs works.
    factor = int(str(caught.value).split("about ")[1].split()[0]) / 13.5
    epochs = round(9 * factor)
    longer = replace(short, steps=[step * factor for step in short.steps], max_epoch=epochs)
    assert plan(section(), replace(BASELINE, epochs=epochs), longer)


@pytest.mark.parametrize(
    "rule",
    [
        None,
        replace(RULE, steps=[0], lrs=[1]),
        CosineAnnealingDecay(learning_rate=0.1, T_max=239),
    ],
)
def test_rejects_a_long_cycle_with_a_rule_without_steps(rule):
    message = "use CustomWarmupPiecewiseDecay with steps, or set LONG_CYCLE: False"
    with pytest.raises(ValueError, match=message):
        plan(section(), BASELINE, rule)


# --- any valid plan ---------------------------------------------------------------------------


@st.composite
def runs(draw):
    """(section, baseline, rule) that fit: even crops, equal groups, an epoch for every phase."""
    base = draw(st.sampled_from([4, 8, 16]))
    spatial, temporal = st.sampled_from([0.25, 0.5, 0.75, 1]), st.sampled_from([0.25, 0.5, 1])
    widths = draw(st.lists(st.integers(400, 900), min_size=3, max_size=5))
    steps = [0, *(sum(widths[: i + 1]) for i in range(len(widths)))]
    epochs = steps.pop() if draw(st.booleans()) else steps[-1]
    baseline = BaselineRun(
        epochs=epochs,
        batch_size=base * draw(st.integers(1, 4)),
        num_frames=draw(st.sampled_from([8, 16, 32, 64])),
        crop_size=8 * draw(st.integers(4, 40)),
        sampling_rate=draw(st.integers(1, 8)),
        jitter=(320, 400),
    )
    spec = section(
        long_cycle_factors=[*draw(st.lists(st.tuples(temporal, spatial), max_size=4)), (1, 1)],
        short_cycle_factors=draw(st.lists(spatial, max_size=3)),
        bn_base_size=base,
        epoch_factor=draw(st.sampled_from([1.3, 1.5, 2.0])),
        SHORT_CYCLE=draw(st.booleans()),
        LONG_CYCLE=draw(st.booleans()),
    )
    lrs = [0.1**k for k in range(len(steps))]
    rule = replace(RULE, steps=steps, lrs=lrs, max_epoch=epochs, warmup_epochs=0)
    return spec, baseline, rule


@settings(deadline=None, max_examples=150)
@given(runs())
def test_phases_cover_the_epochs_without_gap_or_overlap(run):
    spec, baseline, rule = run
    phases = plan(spec, baseline, rule)
    assert phases[0].first == 0 and all(a.end == b.first for a, b in pairwise(phases))
    assert all(p.num_epochs > 0 for p in phases)
    factor = spec.epoch_factor if spec.LONG_CYCLE or spec.SHORT_CYCLE else 1
    last = phases[-1]
    assert last.end == int(baseline.epochs * factor)
    assert (last.num_frames, last.crop_size) == (baseline.num_frames, baseline.crop_size)
    assert last.batch_size == baseline.batch_size


@settings(deadline=None, max_examples=150)
@given(runs())
def test_steps_cost_about_the_same_and_divide_into_groups(run):
    spec, baseline, rule = run
    cost = baseline.batch_size * baseline.num_frames * baseline.crop_size**2
    for phase in plan(spec, baseline, rule):
        pixels = phase.batch_size * phase.crop_size**2
        # Rounding a batch of 1.5 to an integer changes the cost by up to a third.
        assert 2 / 3 <= pixels * phase.num_frames / cost <= 4 / 3
        for step in phase.cycle:
            assert 2 / 3 <= step.batch_size * step.crop_size**2 / pixels <= 4 / 3
            group = step.batch_size / phase.bn_splits
            assert group.is_integer() and group >= min(spec.bn_base_size, phase.batch_size)
            ratio = baseline.jitter[0] / baseline.crop_size
            assert step.jitter[0] / step.crop_size == pytest.approx(ratio, rel=0.05)
        low, high = phase.stride
        assert low == baseline.sampling_rate
        assert high * phase.num_frames <= baseline.sampling_rate * baseline.num_frames


@settings(deadline=None, max_examples=150)
@given(runs())
def test_the_rate_per_clip_is_constant_within_a_stage(run):
    spec, baseline, rule = run
    phases = plan(replace(spec, LONG_CYCLE=True), baseline, rule)
    rate = learning_rate(replace(spec, LONG_CYCLE=True), rule, phases)
    rate_of_stage: dict[float, float] = {}
    for phase in phases:
        per_clip = rate(float(phase.first)) / phase.batch_size
        decay = round(phase.lr_scale * baseline.batch_size / phase.batch_size, 12)
        assert per_clip == pytest.approx(rate_of_stage.setdefault(decay, per_clip), rel=1e-9)
        assert rate(phase.end - 1e-6) == rate(float(phase.first))
    assert list(rate_of_stage) == pytest.approx([0.1**k for k in range(len(rate_of_stage))])


@settings(deadline=None, max_examples=150)
@given(runs(), st.integers(0, 5000), st.integers(1, 8))
def test_an_epoch_has_as_many_steps_as_its_records_fill(run, num_records, world_size):
    phase = plan(*run)[0]
    count = steps_per_epoch(phase, num_records, world_size)
    used = sum(shape_of(step, phase).batch_size for step in range(count)) * world_size
    assert used <= num_records < used + shape_of(count, phase).batch_size * world_size
