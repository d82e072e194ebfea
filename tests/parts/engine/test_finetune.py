"""From weights of other classes to one's own: what is loaded, what stays, what counts more, what is drawn more often."""

import json
import warnings

import numpy as np
import paddle
import pytest

from paddlevideo.config.schema import ConfigError
from paddlevideo.data.datasets import FrameDataset, VideoDataset
from paddlevideo.data.lists import DatasetError
from paddlevideo.data.loader import ClipDataset
from paddlevideo.data.orders import BalancedOrder, TrainOrder
from paddlevideo.engine.build import build_metric, build_model, load_config
from paddlevideo.engine.class_weights import class_weights, training_records
from paddlevideo.engine.classes import load_records
from paddlevideo.engine.describe import describe
from paddlevideo.engine.evaluate import Scored
from paddlevideo.engine.finetune import apply_finetune
from paddlevideo.engine.precise_bn import batch_norms
from paddlevideo.engine.start_weights import load_weights
from paddlevideo.engine.test import tag_row
from paddlevideo.losses import cross_entropy, mixed_cross_entropy, sigmoid_cross_entropy
from paddlevideo.models.layers import SubBatchNorm3D
from paddlevideo.sample import BatchShape, Draw, Record
from paddlevideo.weights import WeightsError, state_arrays

KEEP = "MODEL.head.keep_rows=by_name"


# --- weights of other classes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released():
    """A whole PP-TSN-18 of five classes, and the config that it is of."""
    cfg = load_config("configs/demo/pptsn.yaml")
    paddle.seed(5)
    return state_arrays(build_model(cfg, 5))


@pytest.fixture
def demo():
    return lambda *overrides: load_config("configs/demo/pptsn.yaml", list(overrides))


THEIRS = ["swim", "run", "row", "dive", "跳"]
W, B = "head.fc.weight", "head.fc.bias"


def test_a_head_of_other_classes_is_reinitialized(demo, released):
    paddle.seed(1)
    model = build_model(demo(), 3)
    before = state_arrays(model)
    account, why = load_weights(model, released, "k5.pdparams", None, ["run", "jump", "跳"])
    assert why == "head.fc is re-initialized: 5 -> 3 classes"
    assert account.startswith(
        "k5.pdparams: 115 of 117 tensors loaded; head.fc.weight is [512, 5] in the file, [512, 3] in the"
    )
    after = state_arrays(model)
    assert all(
        (after[name] == (before if name in (W, B) else released)[name]).all() for name in after
    )


def test_rows_are_kept_by_name(demo, released):
    model = build_model(demo(KEEP), 3)
    before = state_arrays(model)
    lines = load_weights(model, released, "k5.pdparams", THEIRS, ["run", "jump", "跳"])
    assert (
        lines[1]
        == "head.fc is re-initialized: 5 -> 3 classes; rows kept by name: 2 (run, 跳)"
    )
    after = state_arrays(model)
    for ours, theirs in ((0, 1), (2, 4)):
        assert (after[W][:, ours] == released[W][:, theirs]).all() and after[B][ours] == released[
            B
        ][theirs]
    assert (after[W][:, 1] == before[W][:, 1]).all()


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (
            None,
            ["a", "b"],
            "no row is kept: the file has no class names (FINETUNE.class_names gives them)",
        ),
        (
            THEIRS,
            None,
            "no row is kept: the data has no class names (DATASET.class_names gives them)",
        ),
        (THEIRS, ["a", "b"], "no row is kept: no name is in both"),
    ],
)
def test_why_no_row_is_kept(demo, released, theirs, ours, said):
    assert load_weights(build_model(demo(KEEP), 2), released, "x", theirs, ours)[1].endswith(said)


def test_names_may_be_written_as_folders_are(demo, released):
    names = ["air drumming", "Run", "run", "push up", "跳"]
    model = build_model(demo(KEEP), 4)
    lines = load_weights(model, released, "x", names, ["Air_Drumming", "run", "push-up", "running"])
    assert lines[1].endswith("rows kept by name: 3 (Air_Drumming, run, push-up)")
    for ours, theirs in ((0, 0), (1, 2), (2, 3)):
        assert (state_arrays(model)[W][:, ours] == released[W][:, theirs]).all()
    with pytest.raises(
        WeightsError, match="x: head.fc has 5 classes, and 2 names are given for them"
    ):
        load_weights(model, released, "x", ["a", "b"], None)


def test_as_many_classes_may_still_be_others(demo, released):
    model = build_model(demo(KEEP), 5)
    assert len(load_weights(model, released, "x", THEIRS, THEIRS)) == 1
    assert (state_arrays(model)[W] == released[W]).all()
    assert len(load_weights(model, released, "x", None, THEIRS)) == 1, (
        "without names nothing speaks against them"
    )

    turned = THEIRS[::-1]
    (_, why) = load_weights(model, released, "x", THEIRS, turned)
    assert why.startswith(
        "head.fc is re-initialized: 5 other classes (swim, run, row, dive, 跳 -> 跳, dive, row, run, swim); rows kept by name: 5"
    )
    assert (state_arrays(model)[W] == released[W][:, ::-1]).all()
    plain = build_model(demo(), 5)
    before = state_arrays(plain)[W]
    load_weights(plain, released, "x", THEIRS, turned)
    assert (state_arrays(plain)[W] == before).all(), "rows of other classes are worth nothing"


def test_any_other_misfit_is_an_error(demo, released):
    model = build_model(demo(), 3)
    before = state_arrays(model)
    lacking = {k: v for k, v in released.items() if k != "backbone.bb_0_0.conv0._conv.weight"}
    with pytest.raises(
        WeightsError,
        match=r"not in the file: backbone.bb_0_0.conv0._conv.weight. These weights belong to another",
    ):
        load_weights(model, lacking, "x", None, None)
    narrow = {**released, W: released[W][:100]}
    with pytest.raises(
        WeightsError, match=r"head.fc.weight is \[100, 5\] in the file, \[512, 3\] in the model"
    ):
        load_weights(model, narrow, "x", None, None)
    backbone = {k.removeprefix("backbone."): v for k, v in released.items() if k not in (W, B)}
    with pytest.raises(
        WeightsError, match=r"-o MODEL.backbone.pretrained=imagenet.pdparams instead of -w"
    ):
        load_weights(model, backbone, "imagenet.pdparams", None, None)
    after = state_arrays(model)
    assert all((after[name] == before[name]).all() for name in after), "nothing was loaded"


SLOWFAST = [f"MODEL.{key}" for key in ("backbone.width_per_group=8", "head.width_per_group=8")]
OTHERS = {
    "recognition/slowfast/slowfast": ("head.projection", SLOWFAST),
    "demo/avslowfast": ("head.projection", []),
    "demo/audio": ("head.fc", []),
    "recognition/tsn/tsn_k400_videos": (
        "head.fc",
        ["MODEL.backbone.depth=18", "MODEL.head.in_channels=512"],
    ),
    "recognition/nextvlad/nextvlad_youtube8m": ("head.classifier", ["MODEL.head.hidden_size=16"]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_heads_of_all_families(name):
    layer, small = OTHERS[name]
    cfg = load_config(f"configs/{name}.yaml", [*small, KEEP])
    model = build_model(cfg, 2)
    ours, shape = state_arrays(model), lambda array: (*array.shape[:-1], 4)
    theirs = {
        k: np.full(shape(v), 0.5, v.dtype) if k.startswith(layer + ".") else v
        for k, v in ours.items()
    }
    _, why = load_weights(model, theirs, "x", list("abcd"), ["z", "b"])
    assert why == f"{layer} is re-initialized: 4 -> 2 classes; rows kept by name: 1 (b)"
    weight = state_arrays(model)[f"{layer}.weight"]
    assert (weight[:, 1] == 0.5).all() and (weight[:, 0] != 0.5).all()


# --- frozen parts, learning rates -------------------------------------------------------------------------------------


def stepped(model, optimizer, frames):
    model.train()
    cross_entropy(model({"frames": frames}), paddle.to_tensor([0, 1])).backward()
    optimizer.step()
    optimizer.clear_grad()


@pytest.mark.parametrize("words", [["stem", "stage1"], ["backbone.conv1_", "backbone.bb_0_"]])
def test_frozen_stages_do_not_move(demo, words):
    cfg = demo(f"FINETUNE.freeze={json.dumps(words)}")
    model = build_model(cfg, 2)
    assert apply_finetune(cfg, model) == f"frozen: {', '.join(words)} (24 of 71 trained tensors)"
    frames = paddle.to_tensor(
        np.random.default_rng(0).standard_normal((2, 2, 3, 64, 64), np.float32)
    )
    before = state_arrays(model)
    stepped(model, cfg.OPTIMIZER.make().build(model.named_parameters()), frames)
    after = state_arrays(model)
    moved = {name for name in after if (after[name] != before[name]).any()}
    still = {name for name in after if name.startswith(("backbone.conv1_", "backbone.bb_0_"))}
    assert not moved & still and moved == after.keys() - still
    assert not [
        name
        for name in batch_norms(model)
        if name.startswith(("backbone.conv1_", "backbone.bb_0_"))
    ], "nor by precise BN"

    # In training they give what they give in evaluation.
    model.train()
    in_training = model.backbone.conv1_1(frames[:, 0]).numpy()
    model.eval()
    assert (model.backbone.conv1_1(frames[:, 0]).numpy() == in_training).all()


def test_a_frozen_split_norm_takes_its_running_statistics():
    norm = SubBatchNorm3D(4, splits=2)
    norm._use_global_stats = True
    x = paddle.randn([4, 4, 2, 3, 3])
    norm.train()
    y = norm(x).numpy()
    norm.eval()
    np.testing.assert_allclose(y, norm(x).numpy(), rtol=1e-6)
    assert (norm._mean.numpy() == 0).all()


def test_learning_rates_of_parts(demo):
    cfg = demo("FINETUNE.lr_mult={backbone: 0.1, stage4: 0.5, head.fc.bias: 2}")
    model = build_model(cfg, 2)
    assert (
        apply_finetune(cfg, model)
        == "learning rate x 0.1: backbone; learning rate x 0.5: stage4; learning rate x 2: head.fc.bias"
    )
    factor = {
        name: p.optimize_attr["learning_rate"]
        for name, p in model.named_parameters()
        if not p.stop_gradient
    }
    assert factor["backbone.bb_2_0.conv0._conv.weight"] == pytest.approx(0.1)
    assert factor["backbone.bb_3_1.conv1._batch_norm.bias"] == pytest.approx(0.5), (
        "the longer name counts"
    )
    assert (factor["head.fc.weight"], factor["head.fc.bias"]) == (5, 20), (
        "on top of the head's own factors"
    )

    # And the optimizer heeds them.
    model = paddle.nn.Linear(2, 2)
    model.weight.optimize_attr["learning_rate"] = 0.1
    optimizer = paddle.optimizer.SGD(1.0, parameters=model.parameters())
    before = state_arrays(model)
    model(paddle.ones([1, 2])).sum().backward()
    optimizer.step()
    after = state_arrays(model)
    np.testing.assert_allclose(before["weight"] - after["weight"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(before["bias"] - after["bias"], 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "FINETUNE.freeze=[stag1]",
            r"FINETUNE.freeze: no parameter begins with 'stag1'; did you mean 'stage1'\?",
        ),
        ("FINETUNE.freeze=['']", "FINETUNE.freeze: no parameter begins with ''"),
        ("FINETUNE.freeze=[backbone, head]", "FINETUNE.freeze leaves no parameter to train"),
        ("FINETUNE.lr_mult={bakbone: 0.1}", "FINETUNE.lr_mult: no parameter begins with 'bakbone'"),
        (
            "FINETUNE.lr_mult={backbone: 0}",
            "FINETUNE.lr_mult.backbone is 0, expected a number above 0; freeze stops",
        ),
        (
            "FINETUNE.lr_mult={backbone: fast}",
            "FINETUNE.lr_mult.backbone is 'fast', expected a number above 0",
        ),
    ],
)
def test_mistakes_are_told_before_training(demo, override, said):
    with pytest.raises(ConfigError, match=said):
        describe(demo(override))


# --- classes of different sizes ----------------------------------------------------------------------------------------


def records_of(counts):
    return [
        Record(f"{label}/{n}", label) for label, count in enumerate(counts) for n in range(count)
    ]


def balanced(counts, **arguments):
    labels = tuple(record.label for record in records_of(counts))
    return BalancedOrder(len(labels), (BatchShape(4),), **arguments, labels=labels)


def test_each_class_is_drawn_equally_often():
    order = balanced((20, 3, 5))
    assert len(order) == len(TrainOrder(28, (BatchShape(4),))) == 7
    for epoch in range(3):
        draws = [draw for batch in order.batches(epoch) for draw in batch]
        counts = np.bincount([order.labels[draw.index] for draw in draws])
        assert sorted(counts) == [9, 9, 10]
        assert len({(draw.index, draw.repeat) for draw in draws}) == 28, "each time another clip"
        rare = [draw for draw in draws if order.labels[draw.index] == 1]
        assert {draw.index for draw in rare} == {20, 21, 22} and max(
            draw.repeat for draw in rare
        ) == (len(rare) - 1) // 3
    assert list(order.batches(1)) == list(balanced((20, 3, 5)).batches(1)) != list(order.batches(2))
    frequent = {
        draw.index
        for epoch in range(8)
        for batch in order.batches(epoch)
        for draw in batch
        if draw.index < 20
    }
    assert frequent == set(range(20)), "others in each epoch"


def test_balanced_batches_are_those_of_one_rank():
    whole = [
        set(batch)
        for batch in BalancedOrder(16, (BatchShape(4),), labels=(0,) * 12 + (1,) * 4).batches(2)
    ]
    parts = [
        list(
            BalancedOrder(
                16, (BatchShape(2),), rank=rank, world_size=2, labels=(0,) * 12 + (1,) * 4
            ).batches(2)
        )
        for rank in (0, 1)
    ]
    assert [set(a) | set(b) for a, b in zip(*parts, strict=True)] == whole


def test_another_turn_is_another_clip():
    class Random:
        def __call__(self, record, rng):
            return {"frames": rng.integers(1 << 30, size=1)}

        def shaped(self, shape):
            return self

    dataset = ClipDataset(records_of((2,)), Random(), seed=3)
    clips = [dataset.sample(0, Draw(1, None, turn))[0]["frames"][0] for turn in (0, 1, 2)]
    assert len(set(clips)) == 3
    assert clips[0] == np.random.default_rng((3, 0, 1, 0)).integers(1 << 30, size=1)[0], (
        "the first as ever"
    )


def test_sampling_needs_one_class_each(small):
    cfg = small("DATASET.sampling=class_balanced")
    lists, _ = load_records(cfg, ("train",))
    found = training_records(cfg, lists["train"])
    assert isinstance(found.order((BatchShape(3),), 0, 0, 1, None), BalancedOrder)
    with pytest.raises(
        ConfigError, match="class_balanced needs one class for each record; use LOSS.class_weights"
    ):
        training_records(cfg, type(found)([Record("a", labels=(0, 1))]))


def test_class_weights_from_counts_numbers_and_names(demo):
    records = records_of((6, 3, 0))
    weights = class_weights(demo("LOSS.class_weights=balanced"), records, 3, None, False)
    np.testing.assert_allclose(weights, [9 / (2 * 6), 9 / (2 * 3), 1])
    assert np.mean([weights[record.label] for record in records]) == pytest.approx(1)
    assert class_weights(demo(), records, 3, None, False) is None
    assert class_weights(
        demo("LOSS.class_weights=[1, 2, 0.5]"), records, 3, None, False
    ).tolist() == [1, 2, 0.5]
    assert class_weights(
        demo("LOSS.class_weights={b: 3}"), records, 3, list("abc"), False
    ).tolist() == [1, 3, 1]
    several = [Record("x", labels=labels) for labels in ((0, 1), (0,), (0,), ())]
    assert class_weights(
        demo("LOSS.class_weights=balanced"), several, 3, None, True
    ).tolist() == pytest.approx([1 / 3, 3, 1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[1, 2]", "LOSS.class_weights has 2 numbers, there are 3 classes"),
        ("{jmp: 2}", "there is no class 'jmp'; did you mean 'jump'"),
        ("[1, 2, -1]", "-1.0 of class 2, expected a number above 0"),
        ("{run: much}", "'much' of class 0, expected a number above 0"),
    ],
)
def test_class_weights_that_do_not_fit(demo, given, said):
    with pytest.raises(ConfigError, match=said):
        class_weights(demo(f"LOSS.class_weights={given}"), [], 3, ["run", "jump", "row"], False)


def test_weights_in_the_losses():
    rng = np.random.default_rng(2)
    logits, labels, weights = (
        rng.standard_normal((4, 3)).astype(np.float32),
        np.array([0, 2, 2, 1]),
        np.float32([0.5, 2, 4]),
    )
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smooth = 0.1 / 3 + np.eye(3)[labels] * 0.9
    expected = (weights[labels] * -(smooth * log_p).sum(1)).mean()
    tensors = [paddle.to_tensor(a) for a in (logits, labels, weights)]
    assert float(cross_entropy(*tensors[:2], 0.1, tensors[2])) == pytest.approx(expected, rel=1e-5)
    ones = paddle.ones([3])
    assert float(cross_entropy(*tensors[:2], 0.1, ones)) == pytest.approx(
        float(cross_entropy(*tensors[:2], 0.1)), rel=1e-6
    )
    other = paddle.to_tensor(labels[::-1].copy())
    mixed = mixed_cross_entropy(tensors[0], tensors[1], other, 0.3, 0.1, tensors[2])
    parts = [
        float(cross_entropy(tensors[0], each, 0.1, tensors[2])) for each in (tensors[1], other)
    ]
    assert float(mixed) == pytest.approx(0.3 * parts[0] + 0.7 * parts[1], rel=1e-5)

    many = np.float32([[1, 0, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]])
    p = 1 / (1 + np.exp(-logits))
    expected = -(weights * many * np.log(p) + (1 - many) * np.log(1 - p)).sum() / 4
    assert float(
        sigmoid_cross_entropy(tensors[0], paddle.to_tensor(many), tensors[2])
    ) == pytest.approx(expected, rel=1e-5)


# --- several labels a video ----------------------------------------------------------------------------------------------


@pytest.fixture
def videos(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    return tmp_path


LISTS = {
    "tags.csv": "path,labels\na.mp4,run;jump\nb.mp4, jump \nc.mp4,\nd.mp4,run;跳 高\n",
    "tags.jsonl": "\n".join(
        json.dumps({"path": f"{name}.mp4", "labels": labels}, ensure_ascii=False)
        for name, labels in (
            ("a", ["run", "jump"]),
            ("b", ["jump"]),
            ("c", []),
            ("d", ["跳 高", "run", "run"]),
        )
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_tables_of_several_labels(videos, name):
    (videos / name).write_text(LISTS[name], encoding="utf-8")
    found = VideoDataset(str(videos / name), multi_label=True).load()
    assert found.class_names == ["jump", "run", "跳 高"] and found.max_label == 2
    assert [(r.labels, r.label) for r in found.records] == [
        ((0, 1), None),
        ((0,), None),
        ((), None),
        ((1, 2), None),
    ]
    again = VideoDataset(str(videos / name), multi_label=True).load(["run", "jump", "x", "跳 高"])
    assert [r.labels for r in again.records] == [(0, 1), (1,), (), (0, 3)]


def test_a_list_of_several_labels(videos):
    (videos / "tags.list").write_text("a.mp4 3,17,250\nb.mp4 17\nc.mp4 0\n", encoding="utf-8")
    found = VideoDataset(str(videos / "tags.list"), multi_label=True).load()
    assert [r.labels for r in found.records] == [(3, 17, 250), (17,), (0,)] and (
        found.max_label,
        found.class_names,
    ) == (
        250,
        None,
    )
    sample, _ = ClipDataset(
        found.records, lambda record, rng: {"label": np.int64(-1)}, num_classes=251
    ).sample(0, Draw(0))
    assert sample["label"].dtype == np.uint8 and np.flatnonzero(sample["label"]).tolist() == [
        3,
        17,
        250,
    ]


def test_frames_and_folders_may_have_several_labels(tmp_path):
    for name in ("run/x", "row/y"):
        (tmp_path / "frames" / name).mkdir(parents=True)
        (tmp_path / "frames" / name / "img_00001.jpg").write_bytes(b"")
    found = FrameDataset(str(tmp_path / "frames"), multi_label=True).load()
    assert ([r.labels for r in found.records], found.class_names) == ([(0,), (1,)], ["row", "run"])
    (tmp_path / "frames" / "tags.list").write_text("run/x 1 4,2\n")
    assert FrameDataset(str(tmp_path / "frames" / "tags.list"), multi_label=True).load().records[
        0
    ].labels == (2, 4)


@pytest.mark.parametrize(
    ("text", "several", "said"),
    [
        (
            "path,labels\na.mp4,run;jump\n",
            False,
            r"t.csv:2: it has labels instead of a label: training needs DATASET.multi_label: true",
        ),
        (
            "path,label,labels\na.mp4,run,run\n",
            True,
            r"t.csv:2: it has both label and labels; keep one",
        ),
        (
            "path,label\na.mp4,run;jump\n",
            True,
            r"t.csv:2: label 'run;jump': name the column labels if a row has several",
        ),
        (
            "path,labels\na.mp4,3;x\n",
            True,
            r"t.csv:2: label 'x' is a class name, but line 2 has a class id",
        ),
        ("path,labels\na.mp4,\nb.mp4,\n", True, r"none of its 2 records has a label"),
        ("path,labels\na.mp4,2;-1\n", True, r"t.csv:2: label -1: class ids count from 0"),
        (
            "a.mp4 3,17\nb.mp4 4,5\n",
            False,
            r"t.csv:1: label '3,17' is a list of class ids, which needs DATASET.multi_label: true",
        ),
    ],
)
def test_lists_of_labels_that_are_wrong(videos, text, several, said):
    (videos / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=said):
        VideoDataset(str(videos / "t.csv"), multi_label=several).load()


def test_json_labels_that_are_no_list(videos):
    (videos / "t.jsonl").write_text(
        '{"path": "a.mp4", "labels": {"run": 1}}\n{"path": "b.mp4", "labels": [true]}\n'
    )
    with pytest.raises(
        DatasetError,
        match=r"t.jsonl:1: labels \{'run': 1\} is not a list.*\n.*:2: labels \[True\] is not a list",
    ):
        VideoDataset(str(videos / "t.jsonl"), multi_label=True).load()


def test_one_switch_for_data_model_and_metric(demo, small):
    cfg = small("DATASET.multi_label=true")
    model = build_model(cfg, 3)
    metric = build_metric(cfg, 3, model.multi_label)
    assert model.multi_label and (metric.multi_label, metric.top_k, metric.headline) == (
        True,
        3,
        ("map", "mAP"),
    )
    lists, _ = load_records(cfg, ("train", "valid"))
    assert all(len(record.labels) == 1 for part in lists.values() for record in part.records), (
        "folders give one each"
    )
    with pytest.raises(
        ConfigError,
        match="DATASET.train.multi_label is True; set DATASET.multi_label for all splits",
    ):
        load_records(small("DATASET.train.multi_label=true"), ("train",))
    with pytest.raises(
        ConfigError, match="DATASET.multi_label: AudioRecognizer predicts one class per video"
    ):
        build_model(load_config("configs/demo/audio.yaml", ["DATASET.multi_label=true"]), 2)
    with pytest.raises(
        ConfigError, match="DATASET.multi_label: AudioDataset has no multi-label lists"
    ):
        load_records(
            load_config("configs/demo/audio.yaml", ["DATASET.multi_label=true"]), ("train",)
        )
    with pytest.raises(ConfigError, match="METRIC CenterCropMetric does not fit"):
        build_metric(demo("DATASET.multi_label=true"), 3, True)


def test_chances_far_from_a_half_are_numbers():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = tag_row(Scored(Record("a.mp4"), 0, np.zeros(3), "", np.array([-1000.0, 3.0, 1000.0])))
    assert row["classes"] == [2, 1, 0] and row["scores"] == [1.0, pytest.approx(0.95257413), 0.0]


def test_slowfast_with_several_labels_averages_logits():
    slowfast = "configs/recognition/slowfast/slowfast.yaml"
    models = [
        build_model(load_config(slowfast, [*SLOWFAST, f"DATASET.multi_label={on}"]), 3)
        for on in ("false", "true")
    ]
    models[1].set_state_dict(models[0].state_dict())
    clips = {"fast": paddle.randn([1, 3, 32, 32, 32]), "slow": paddle.randn([1, 3, 4, 32, 32])}
    for model in models:
        model.eval()
    plain, several = (model(clips).numpy() for model in models)
    np.testing.assert_allclose(
        np.exp(plain).sum(), 1, rtol=1e-5
    )  # log-probabilities of one class of many
    assert models[1].view_average == "logits" and abs(np.exp(several).sum() - 1) > 1e-3
    np.testing.assert_allclose(plain, several - np.log(np.exp(several).sum()), rtol=1e-4, atol=1e-5)


# --- a table of all splits -------------------------------------------------------------------------------------------------


def test_a_split_column_is_heeded(videos, small):
    (videos / "all.csv").write_text(
        "path,label,split\na.mp4,run,train\nb.mp4,jump,Training\nc.mp4,run,val\nd.mp4,run,test\n"
    )
    file = str(videos / "all.csv")
    assert [r.id for r in VideoDataset(file, split="train").load().records] == ["a.mp4", "b.mp4"]
    assert [r.id for r in VideoDataset(file, split="valid").load().records] == ["c.mp4"]
    with pytest.raises(
        DatasetError, match="it has a column split; choose one with split: train, valid or test"
    ):
        VideoDataset(file).load()
    cfg = small(
        *(f"DATASET.{split}.file_path={file}" for split in ("train", "valid", "test")),
        "DATASET.test.split=valid",
    )
    lists, classes = load_records(cfg, ("train", "valid", "test"))
    assert {k: [r.id for r in v.records] for k, v in lists.items()} == {
        "train": ["a.mp4", "b.mp4"], "valid": ["c.mp4"], "test": ["c.mp4"],
    }  # fmt: skip
    assert classes.names == ["jump", "run"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.mp4,run,train\nb.mp4,run,\n", "all.csv:3: no split; other lines have one"),
        (
            "a.mp4,run,train\nb.mp4,run,holdout\n",
            "all.csv:3: split 'holdout', expected train, val or test",
        ),
        ("a.mp4,run,train\nb.mp4,run,test\n", "no line has split val; there are 1 train, 1 test"),
    ],
)
def test_split_columns_that_are_wrong(videos, text, said):
    (videos / "all.csv").write_text("path,label,split\n" + text)
    with pytest.raises(DatasetError, match=said):
        VideoDataset(str(videos / "all.csv"), split="valid").load()
