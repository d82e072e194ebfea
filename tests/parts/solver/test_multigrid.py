"""The multigrid plan: its phases, costs and rates, the four ways to switch it, and what it refuses."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlevideo.solver.lr import (
    CosineAnnealingDecay,
    CustomWarmupCosineDecay,
    CustomWarmupPiecewiseDecay,
    PiecewiseDecay,
)
from paddlevideo.solver.multigrid import (
    Phase,
    Plain,
    describe,
    evaluates,
    learning_rate,
    phase_at,
    plan,
    relative_cost,
    saves,
    saving,
    short_cycle,
    steps_per_epoch,
)

PLAIN = Plain(
    epochs=239, batch_size=8, num_frames=32, crop_size=224, sampling_rate=2, jitter=(256, 320)
)
RULE = CustomWarmupPiecewiseDecay(
    warmup_start_lr=0.01, warmup_epochs=34, step_base_lr=0.1, lrs=[1, 0.1, 0.01, 0.001], steps=[0, 94, 154, 196],
    max_epoch=239, iter_step=True,
)  # fmt: skip
HALF = 0.7071


def section(**changes):
    """The MULTIGRID section of PaddleVideo's slowfast_multigrid.yaml."""
    keys = {
        "LONG_CYCLE": True, "SHORT_CYCLE": True, "default_batch_size": 0, "default_temporal_size": 0, "default_crop_size": 0,
        "epoch_factor": 1.5, "bn_base_size": 8, "long_cycle_sampling_rate": 0,
        "long_cycle_factors": [{"value": [0.25, HALF]}, {"value": [0.5, HALF]}, {"value": [0.5, 1]}, {"value": [1, 1]}],
        "short_cycle_factors": [0.5, HALF], "follow_release": False,
    }  # fmt: skip
    return SimpleNamespace(**{**keys, **changes})


# --- the four ways -----------------------------------------------------------------------------------------------------


def test_neither_cycle_is_one_phase_that_changes_nothing():
    for spec in (None, section(LONG_CYCLE=False, SHORT_CYCLE=False)):
        (phase,) = plan(spec, PLAIN, RULE)
        assert phase == Phase(0, 239, 8, 32, 224, (2, 2), (256, 320), PLAIN)
        assert learning_rate(spec, RULE, [phase]) is RULE
        assert short_cycle(5, phase) == (224, 8, (256, 320))
        assert relative_cost(phase) == saving([phase]) == 1.0


def test_a_plain_run_needs_no_sizes():
    (phase,) = plan(None, Plain(epochs=100, batch_size=32))
    assert short_cycle(7, phase) == (None, 32, None) and relative_cost(phase) == 1.0
    assert steps_per_epoch(phase, 1000, 2) == 1000 // 64
    assert "1-100" in describe([phase], lambda epoch: 0.1, 1000, 2)


def test_short_cycle_alone():
    spec = section(LONG_CYCLE=False)
    (phase,) = plan(spec, PLAIN, RULE)
    assert (phase.first, phase.end, phase.bn_splits, phase.stride) == (0, 358, 1, (2, 2))
    steps = [short_cycle(step, phase) for step in range(4)]
    assert steps == [
        (112, 32, (128, 320)),
        (158, 16, (181, 320)),
        (224, 8, (256, 320)),
        (112, 32, (128, 320)),
    ]
    assert saving([phase]) == pytest.approx(1.56, abs=0.005)
    rate = learning_rate(spec, RULE, [phase])
    assert (rate.steps, rate.max_epoch, rate.warmup_epochs) == ([0, 141, 231, 294], 358, 34)
    assert [rate(e) for e in (0.0, 34.0, 141.0, 300.0)] == pytest.approx([0.01, 0.1, 0.01, 1e-4])


@pytest.mark.parametrize("short", [False, True])
def test_long_cycle(short):
    phases = plan(section(SHORT_CYCLE=short), PLAIN, RULE, frames_multiple=4)
    assert [(p.num_frames, p.crop_size, p.batch_size) for p in phases[:4]] == [
        (8, 158, 64), (16, 158, 32), (16, 224, 16), (32, 224, 8),
    ]  # fmt: skip
    assert [p.stride for p in phases[:4]] == [(2, 8), (2, 4), (2, 4), (2, 2)]
    assert [p.jitter for p in phases[:4]] == [(181, 320), (181, 320), (256, 320), (256, 320)]
    assert [p.bn_splits for p in phases[:4]] == [8, 4, 2, 1]
    assert all(len(p.cycle) == (3 if short else 1) for p in phases)
    assert saving(phases) == pytest.approx(3.43 if short else 2.20, abs=0.01)


def test_the_last_stage_halves_its_epochs_between_two_rates():
    *_, before, first, second = plan(section(), PLAIN, RULE)
    assert (before.first, first.first, second.first, second.end) == (322, 329, 343, 358)
    assert [p.lr_scale for p in (before, first, second)] == pytest.approx([0.01, 0.01, 0.001])
    assert replace(first, first=0, end=1, lr_scale=1, evaluate=()) == replace(
        second, first=0, end=1, lr_scale=1, evaluate=()
    )


def test_without_epochs_after_the_last_step_there_is_no_last_stage():
    rule = replace(RULE, max_epoch=196)
    phases = plan(section(), replace(PLAIN, epochs=196), rule)
    assert len(phases) == 12 and phases[-1].end == 294 and phases[-1].crop_size == 224


def test_the_rate_of_the_whole_plan():
    spec = section()
    phases = plan(spec, PLAIN, RULE)
    rate = learning_rate(spec, RULE, phases)
    assert (
        rate(0.0) == 0.01
        and rate(17.0) == pytest.approx((0.01 + 0.8) / 2)
        and rate(34.0) == pytest.approx(0.8)
    )
    for phase in phases[1:]:
        assert rate(phase.first) == rate(phase.end - 1e-9) == pytest.approx(0.1 * phase.lr_scale)


def test_other_rules_stretch_with_a_short_cycle():
    spec = section(LONG_CYCLE=False)
    cosine = CustomWarmupCosineDecay(
        max_epoch=239, warmup_epochs=34, warmup_start_lr=0.01, cosine_base_lr=0.1
    )
    assert learning_rate(spec, cosine, plan(spec, PLAIN, cosine)).max_epoch == 358
    pieces = PiecewiseDecay(boundaries=[40, 81], values=[1.0, 0.1, 0.01])
    assert learning_rate(spec, pieces, plan(spec, PLAIN, pieces)).boundaries == [60, 121]
    annealing = CosineAnnealingDecay(learning_rate=0.1, T_max=100)
    assert learning_rate(spec, annealing, plan(spec, PLAIN, annealing)).T_max == 150


def test_factors_may_be_plain_pairs():
    pairs = [[0.25, HALF], [0.5, HALF], [0.5, 1], [1, 1]]
    assert plan(section(long_cycle_factors=pairs), PLAIN, RULE) == plan(section(), PLAIN, RULE)


def test_a_crop_of_the_short_cycle_is_never_larger_than_its_phase():
    spec = section(long_cycle_factors=[[1, 0.5], [1, 1]])
    assert [s.crop_size for s in plan(spec, PLAIN, RULE)[0].cycle] == [112, 112, 112]
    assert {s.batch_size for s in plan(spec, PLAIN, RULE)[0].cycle} == {32}


def test_the_release_s_numbers_where_asked_for():
    spec, ours = section(follow_release=True), plan(section(), PLAIN, RULE)
    theirs = plan(spec, PLAIN, RULE)
    assert {p.stride for p in theirs} == {(2, 2)}
    assert [s.jitter for s in theirs[0].cycle] == [(128, 320), (181, 320), (256, 320)]
    assert [s.jitter for s in ours[0].cycle] == [(128, 320), (181, 320), (181, 320)]
    assert [p.batch_size for p in theirs] == [p.batch_size for p in ours]
    scaled = replace(RULE, reference_batch_size=64)
    assert learning_rate(spec, scaled, theirs).reference_batch_size is None
    assert learning_rate(section(), scaled, ours).reference_batch_size == 64
    with pytest.raises(
        ValueError, match="fixed to crop 224 and short side 256; this config has 112 and 128"
    ):
        plan(spec, replace(PLAIN, crop_size=112, jitter=(128, 160)), RULE)


def test_sizes_come_from_the_section_where_the_config_has_none():
    spec = section(default_batch_size=8, default_temporal_size=32, default_crop_size=224)
    bare = replace(PLAIN, batch_size=0, num_frames=None, crop_size=None)
    assert plan(spec, bare, RULE) == plan(section(), PLAIN, RULE)


def test_the_stride_can_be_capped():
    assert {p.stride[1] for p in plan(section(long_cycle_sampling_rate=3), PLAIN, RULE)} == {2, 3}


# --- questions to a plan ------------------------------------------------------------------------------------------------


def test_cost_of_a_clip():
    costs = [relative_cost(p) for p in plan(section(), PLAIN, RULE)[:4]]
    assert costs == pytest.approx([0.093, 0.187, 0.214, 0.428], abs=5e-4)


def test_steps_of_an_epoch_use_no_record_twice():
    phase = plan(section(), PLAIN, RULE)[0]  # 128, 64, 64 clips
    assert [steps_per_epoch(phase, n) for n in (127, 128, 191, 192, 255, 256, 256 + 128)] == [
        0,
        1,
        1,
        2,
        2,
        3,
        4,
    ]
    assert steps_per_epoch(phase, 256 * 8, 8) == 3


def test_evaluations_and_checkpoints():
    phases = plan(section(), PLAIN, RULE)
    assert [done for done in range(1, 111) if evaluates(phases, done)] == [23, 48, 73, 84, 97, 110]
    assert [done for done in range(340, 359) if evaluates(phases, done, val_interval=1)] == [
        348,
        358,
    ]
    assert [done for done in range(60, 85) if saves(phases, done, 10)] == [61, 71, 73, 81, 84]
    short = plan(section(LONG_CYCLE=False), PLAIN, RULE)
    assert [done for done in range(340, 359) if evaluates(short, done, 10)] == [340, 350, 358]


def test_an_epoch_has_one_phase():
    phases = plan(section(), PLAIN, RULE)
    assert phase_at(phases, 72) is phases[0] and phase_at(phases, 73) is phases[1]
    with pytest.raises(ValueError, match="epochs 0 to 357, asked for 358"):
        phase_at(phases, 358)


def test_the_table():
    spec = section()
    phases = plan(spec, PLAIN, RULE)
    table = describe(phases, learning_rate(spec, RULE, phases), 234_619, 8).splitlines()
    assert (
        len(
            {
                line.index(word)
                for line, word in zip(table, ("frames", "8 x 158", "16 x 158"), strict=False)
            }
        )
        == 1
    )
    words = " ".join(table[1].split())
    assert words == "1 1-73 8 x 158 2 to 8 128 at 112, 64 at 158, 64 at 158 8 0.01 to 0.8 0.093 343"
    assert (
        len(table) == 1 + 14 + 2
        and "358 epochs" in table[-2]
        and "plain training has 239: 3.43 times" in table[-2]
    )
    assert "steps" not in describe(phases, RULE)


# --- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "plain", "message"),
    [
        (
            {},
            {"crop_size": 112},
            r"long_cycle_factors.0: 0.7071 of a crop of 112 pixels gives 79, .*; 0.71 gives 80",
        ),
        (
            {"LONG_CYCLE": False},
            {"crop_size": 64},
            r"short_cycle_factors.1: 0.7071 of a crop of 64 pixels gives 45, .* 46",
        ),
        ({}, {"crop_size": 225}, "even crop, this one is 225"),
        (
            {},
            {"num_frames": 36},
            r"factors.0: 0.25 of 36 frames is 9, expected a multiple of 4 .*use 0.22",
        ),
        ({}, {"num_frames": 30}, "30 frames, expected a multiple of 4, the model's alpha"),
        (
            {},
            {"batch_size": 7},
            r"batch of 56 clips \(16 frames x 112\).* 3 equal groups .*set bn_base_size to 7",
        ),
        (
            {"default_batch_size": 16},
            {},
            "default_batch_size is 16, DATASET.batch_size is 8; set the first to 0",
        ),
        (
            {},
            {"num_frames": None},
            "needs PIPELINE.train.decode_sampler.num_frames.*set MULTIGRID.default_temporal_size",
        ),
        ({}, {"crop_size": None}, "set MULTIGRID.default_crop_size"),
        ({}, {"jitter": None}, "PIPELINE.train needs a JitterScale"),
        ({}, {"sampling_rate": None}, "needs a decode_sampler with a sampling_rate"),
        ({"long_cycle_factors": [[0.5, 1]]}, {}, r"must end with \[1, 1\]"),
        ({"long_cycle_factors": []}, {}, r"must end with \[1, 1\]"),
        (
            {"long_cycle_factors": [[2, 1], [1, 1]]},
            {},
            r"long_cycle_factors.0 is \[2, 1\], expected \[t, s\]",
        ),
        (
            {"long_cycle_factors": [0.5, [1, 1]]},
            {},
            r"long_cycle_factors.0 is 0.5, expected \[t, s\]",
        ),
        ({"short_cycle_factors": [0]}, {}, "short_cycle_factors.0 is 0, expected a share"),
        ({"epoch_factor": 0}, {}, "epoch_factor is 0, expected more than 0"),
        ({"bn_base_size": 0}, {}, "bn_base_size is 0, expected more than 0"),
        (
            {"long_cycle_sampling_rate": 1},
            {},
            "long_cycle_sampling_rate is 1, below the sampling_rate 2",
        ),
        ({}, {"epochs": 20}, "epochs is 20, .* max_epoch 239"),
    ],
)
def test_mistakes_are_named_with_a_remedy(changes, plain, message):
    with pytest.raises(ValueError, match=message):
        plan(section(**changes), replace(PLAIN, **plain), RULE, frames_multiple=4)


def test_schedules_that_do_not_fit():
    short = replace(RULE, steps=[0, 4, 7, 8], max_epoch=9, warmup_epochs=1)
    with pytest.raises(
        ValueError, match=r"phase \d+ of 13 \(.*\) gets no epoch of the 13; .* to about (\d+)"
    ) as caught:
        plan(section(), replace(PLAIN, epochs=9), short)
    enough = int(str(caught.value).split("about ")[1].split()[0]) / 13.5
    longer = replace(short, steps=[s * enough for s in short.steps], max_epoch=round(9 * enough))
    assert plan(section(), replace(PLAIN, epochs=round(9 * enough)), longer)
    for rule in (
        None,
        replace(RULE, steps=[0], lrs=[1]),
        CosineAnnealingDecay(learning_rate=0.1, T_max=239),
    ):
        with pytest.raises(
            ValueError, match="use CustomWarmupPiecewiseDecay with steps, or set LONG_CYCLE: False"
        ):
            plan(section(), PLAIN, rule)


# --- any plan ------------------------------------------------------------------------------------------------------------


@st.composite
def runs(draw):
    """(section, plain run, rule) of any size that fits: even crops, equal groups, an epoch for every phase."""
    base = draw(st.sampled_from([4, 8, 16]))
    spatial, temporal = st.sampled_from([0.25, 0.5, 0.75, 1]), st.sampled_from([0.25, 0.5, 1])
    factors = [*draw(st.lists(st.tuples(temporal, spatial), max_size=4)), (1, 1)]
    widths = draw(st.lists(st.integers(400, 900), min_size=3, max_size=5))
    steps = [0, *(sum(widths[: i + 1]) for i in range(len(widths)))]
    epochs = steps.pop() if draw(st.booleans()) else steps[-1]
    plain = Plain(
        epochs=epochs, batch_size=base * draw(st.integers(1, 4)), num_frames=draw(st.sampled_from([8, 16, 32, 64])),
        crop_size=8 * draw(st.integers(4, 40)), sampling_rate=draw(st.integers(1, 8)), jitter=(320, 400),
    )  # fmt: skip
    spec = section(
        long_cycle_factors=factors, short_cycle_factors=draw(st.lists(spatial, max_size=3)), bn_base_size=base,
        epoch_factor=draw(st.sampled_from([1.3, 1.5, 2.0])), SHORT_CYCLE=draw(st.booleans()), LONG_CYCLE=draw(st.booleans()),
    )  # fmt: skip
    lrs = [0.1**k for k in range(len(steps))]
    return spec, plain, replace(RULE, steps=steps, lrs=lrs, max_epoch=epochs, warmup_epochs=0)


@settings(deadline=None, max_examples=150)
@given(runs())
def test_phases_cover_the_epochs_without_gap_or_overlap(run):
    spec, plain, rule = run
    phases = plan(spec, plain, rule)
    assert phases[0].first == 0 and all(a.end == b.first for a, b in pairwise(phases))
    assert all(p.num_epochs > 0 for p in phases)
    stretch = spec.epoch_factor if spec.LONG_CYCLE or spec.SHORT_CYCLE else 1
    assert phases[-1].end == int(plain.epochs * stretch)
    assert (phases[-1].num_frames, phases[-1].crop_size, phases[-1].batch_size) == (
        plain.num_frames, plain.crop_size, plain.batch_size,
    )  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(runs())
def test_every_step_costs_about_the_same_and_divides_into_its_groups(run):
    spec, plain, rule = run
    whole = plain.batch_size * plain.num_frames * plain.crop_size**2
    for phase in plan(spec, plain, rule):
        own = phase.batch_size * phase.num_frames * phase.crop_size**2
        assert 2 / 3 <= own / whole <= 4 / 3  # what rounding 1.5 to a whole multiple may do
        for step in phase.cycle:
            assert (
                2 / 3
                <= step.batch_size * step.crop_size**2 / (phase.batch_size * phase.crop_size**2)
                <= 4 / 3
            )
            assert (
                step.batch_size % phase.bn_splits == 0
                and step.batch_size / phase.bn_splits >= min(spec.bn_base_size, phase.batch_size)
            )
            assert step.jitter[0] / step.crop_size == pytest.approx(
                plain.jitter[0] / plain.crop_size, rel=0.05
            )
        low, high = phase.stride
        assert (
            low == plain.sampling_rate
            and high * phase.num_frames <= plain.sampling_rate * plain.num_frames
        )


@settings(deadline=None, max_examples=150)
@given(runs())
def test_the_rate_goes_with_the_batch(run):
    spec, plain, rule = run
    phases = plan(spec, plain, rule)
    rate = learning_rate(spec, rule, phases)
    stages: dict[float, float] = {}
    for phase in phases if spec.LONG_CYCLE else ():
        per_clip = rate(float(phase.first)) / phase.batch_size
        power = round(phase.lr_scale * plain.batch_size / phase.batch_size, 12)
        assert per_clip == pytest.approx(stages.setdefault(power, per_clip), rel=1e-9)
        assert rate(phase.end - 1e-6) == rate(float(phase.first))
    if spec.LONG_CYCLE:
        assert list(stages) == pytest.approx([0.1**k for k in range(len(stages))])


@settings(deadline=None, max_examples=150)
@given(runs(), st.integers(0, 5000), st.integers(1, 8))
def test_an_epoch_is_filled_as_far_as_whole_steps_go(run, num_records, world_size):
    phase = plan(*run)[0]
    count = steps_per_epoch(phase, num_records, world_size)
    used = sum(short_cycle(step, phase).batch_size for step in range(count)) * world_size
    assert used <= num_records < used + short_cycle(count, phase).batch_size * world_size
