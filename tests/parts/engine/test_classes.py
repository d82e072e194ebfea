"""Class names from several sources: the config's file, a checkpoint, the data, a caller."""

import json

import paddle
import pytest

from paddlevideo.api import test as run_test
from paddlevideo.curate.demo_shards import ShardPlan, make_shards
from paddlevideo.data.datasets import DatasetError, RecordList
from paddlevideo.data.youtube8m.dataset import YouTube8MDataset
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import Progress, TrainState
from paddlevideo.engine.classes import Classes, known_classes, with_order
from paddlevideo.engine.load import trained_model
from paddlevideo.exporting.export import export
from paddlevideo.predict.predictor import Predictor
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.sample import Record
from paddlevideo.weights import WeightsError
from tests.parts.conftest import NAMES

OTHER_ORDER = ["kürbis", "appel", "birne"]
SPELT_OTHERWISE = ["Kürbis", "appel ", "BIRNE"]
ORDERS = "kürbis, appel, birne; .* has 3, appel, birne, kürbis"


@pytest.fixture
def config(exported, tmp_path):
    """`config(names, *overrides)`: the config of the exported model with a file of class names."""

    def load(names, *overrides):
        file = tmp_path / "names.txt"
        file.write_text("\n".join(names) + "\n", encoding="utf-8")
        return load_config(exported.config, [f"DATASET.class_names={file}", *overrides])

    return load


@pytest.fixture
def labeled(exported, tmp_path):
    """`labeled(labels)`: override that labels the three videos of the test."""

    def overrides(labels):
        lines = [f"{file} {label}\n" for file, label in zip(exported.files, labels, strict=True)]
        (tmp_path / "test.list").write_text("".join(lines), encoding="utf-8")
        return f"DATASET.test.file_path={tmp_path / 'test.list'}"

    return overrides


def top1(cfg, exported) -> float:
    return run_test(cfg, str(exported.weights)).numbers["top1"]


@pytest.fixture(scope="module")
def predicted(exported) -> list[str]:
    """The class names that the model predicts for the three videos."""
    predictor = Predictor(exported.folder, device="cpu", threads=1)
    return [result.label_names[0] for result in predictor.predict(exported.files)]


# --- a checkpoint and the file of a config --------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("ids", OTHER_ORDER),
        ("names", NAMES),
        ("names", SPELT_OTHERWISE),
        pytest.param("ids", NAMES, marks=pytest.mark.slow),
        pytest.param("ids", SPELT_OTHERWISE, marks=pytest.mark.slow),
        pytest.param("names", OTHER_ORDER, marks=pytest.mark.slow),
    ],
)
def test_a_test_gives_the_same_accuracy_for_every_order_of_the_names(
    exported, predicted, config, labeled, capsys, names, kind
):
    spelt = {name.strip().lower(): name.strip() for name in names}
    best = [spelt[name] for name in predicted]
    stripped = [name.strip() for name in names]
    labels = best if kind == "names" else [stripped.index(name) for name in best]
    assert top1(config(names, labeled(labels)), exported) == 1.0
    printed = capsys.readouterr()
    said = "classes are matched by name: " in printed.out + printed.err
    assert said == (names != NAMES)
    other = next(name for name in stripped if name != spelt[best[0].lower()])
    labels[0] = other if kind == "names" else stripped.index(other)
    assert top1(config(names, labeled(labels)), exported) == pytest.approx(2 / 3)


def test_an_export_names_the_outputs_as_the_checkpoint_does(exported, config, tmp_path):
    folder = export(config(OTHER_ORDER), exported.weights, tmp_path / "out", ["pir"])
    assert read_manifest(folder).labels == NAMES
    assert trained_model(config(OTHER_ORDER), exported.weights)[1] == Classes(3, NAMES)


def test_score_files_have_the_names_of_the_checkpoint(exported, config, labeled, tmp_path):
    out = tmp_path / "scores.json"
    run_test(config(OTHER_ORDER, labeled([0, 1, 2])), str(exported.weights), str(out))
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["class_names"] == NAMES
    assert [row["label"] for row in content["results"]] == [2, 0, 1]


def test_other_names_rename_classes_only_on_request(exported, config):
    english = ["apple", "pear", "pumpkin"]
    message = (
        "the checkpoint is for other classes: .*names.txt has 3 names, apple, pear, pumpkin; the "
        "checkpoint has 3, appel, birne, kürbis; .* set DATASET.rename_classes=true"
    )
    with pytest.raises(DatasetError, match=message):
        trained_model(config(english), exported.weights)
    renamed = config(english, "DATASET.rename_classes=true")
    assert trained_model(renamed, exported.weights)[1].names == english
    with pytest.raises(DatasetError, match="rename_classes needs a name for each class"):
        known_classes(config(english[:2], "DATASET.rename_classes=true"), NAMES)


@pytest.mark.parametrize("names", [NAMES[:2], [*NAMES, "quitte"], ["appel", "birne", "quitte"]])
def test_refuses_names_that_are_not_those_of_the_checkpoint(exported, config, names):
    with pytest.raises(DatasetError, match="the checkpoint is for other classes"):
        known_classes(config(names), NAMES)


# --- other pairs of sources -----------------------------------------------------------------------


def test_a_predictor_refuses_its_own_names_in_another_order(exported):
    with pytest.raises(
        DatasetError, match=f"the same class names in two orders: class_names has 3 names, {ORDERS}"
    ):
        Predictor(exported.folder, class_names=OTHER_ORDER, device="cpu")
    english = ["apple", "pear", "pumpkin"]
    assert Predictor(exported.folder, class_names=english, device="cpu").labels == english


def test_two_files_of_a_data_set_must_agree(exported, config, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "labels.txt").write_text("\n".join(NAMES), encoding="utf-8")
    cfg = config(OTHER_ORDER, f"DATASET.root={tmp_path / 'root'}")
    with pytest.raises(DatasetError, match=f"in two orders: .*names.txt has 3 names, {ORDERS}"):
        known_classes(cfg, None)
    assert known_classes(config(NAMES, f"DATASET.root={tmp_path / 'root'}"), None).names == NAMES


def test_a_run_is_not_resumed_with_classes_in_another_order(exported, tmp_path):
    model = build_model(exported.cfg, 3)

    def state(names):
        optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
        scaler = paddle.amp.GradScaler(enable=False)
        return TrainState(model, optimizer, scaler, Progress(), names, "same")

    state(NAMES).save(tmp_path / "a.pdstate")
    state(NAMES).restore(tmp_path / "a.pdstate")
    state(None).restore(tmp_path / "a.pdstate")
    message = f"saved by a run with other classes: the file has 3 names, {', '.join(NAMES)}; this"
    with pytest.raises(WeightsError, match=message):
        state(OTHER_ORDER).restore(tmp_path / "a.pdstate")


def test_labels_inside_shards_cannot_be_mapped(tmp_path):
    make_shards(tmp_path, ShardPlan(classes=3, videos=4, per_shard=2, frames=(2, 3)))
    shards = YouTube8MDataset(str(tmp_path)).load()
    assert with_order(shards, NAMES, NAMES) is shards
    message = f"the labels in shards are class ids, .* the file has 3 names, {ORDERS}"
    with pytest.raises(DatasetError, match=message):
        with_order(shards, OTHER_ORDER, NAMES)


def test_maps_single_and_several_labels():
    records = [Record("a", 0), Record("b"), Record("c", labels=(0, 2)), Record("d", labels=())]
    mapped = with_order(RecordList(records), OTHER_ORDER, NAMES)
    assert [(r.label, r.labels) for r in mapped.records] == [
        (2, None),
        (None, None),
        (None, (1, 2)),
        (None, ()),
    ]
    assert mapped.class_names == NAMES
