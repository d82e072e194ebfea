"""Export and predict of models of frame features, of audio, and of frames with audio."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaml

from paddlevideo.engine.build import build_model
from paddlevideo.exporting.export import export, missing_for_onnx
from paddlevideo.exporting.golden import golden_inputs
from paddlevideo.predict.predictor import Predictor
from paddlevideo.runtimes.base import Backend, BackendError, Options
from paddlevideo.runtimes.choose import open_backend
from paddlevideo.runtimes.manifest import read_manifest
from tests.parts.conftest import PROGRAMS, skip_without
from tests.parts.predict.families import FAMILIES, NAMES, NUM_CLASSES, Family, assert_as_tested

# --- export ---------------------------------------------------------------------------------------


INPUTS = {
    "tags": {
        "rgb": ([None, 12, 16], "uint8"),
        "audio": ([None, 12, 8], "uint8"),
        "num_frames": ([None], "int64"),
    },
    "audio": {"audio": ([None, 2, 1, 24, 80], "float32")},
    "both": {
        "slow": ([None, 3, 2, 32, 32], "float32"),
        "fast": ([None, 3, 8, 32, 32], "float32"),
        "audio": ([None, 1, 32, 80], "float32"),
    },
}
SCORES = {"tags": "sigmoid", "audio": "mean", "both": "mean"}


def test_model_yaml_has_inputs_scores_and_modalities(family):
    content = yaml.safe_load((family.folder / "model.yaml").read_text(encoding="utf-8"))
    inputs = {name: (spec["shape"], spec["dtype"]) for name, spec in content["inputs"].items()}
    assert inputs == INPUTS[family.name]
    assert content["multilabel"] == (family.name == "tags")
    assert content["scores"].startswith(SCORES[family.name])
    modalities = {"visual": ["slow", "fast"], "audio": ["audio"]}
    assert content["modalities"] == (modalities if family.name == "both" else {})
    assert (content["views"], content["labels"]) == (6 if family.name == "both" else 1, NAMES)
    suffixes = {".pdmodel"} | (set() if missing_for_onnx() else {".onnx"})
    suffixes |= {".json"} if family.name == "tags" else set()
    assert content["differences"].keys() == {family.name + suffix for suffix in suffixes}
    for file, row in content["differences"].items():
        unread = {kind for kind, value in row.items() if isinstance(value, str)}
        assert unread <= ({"openvino"} if file.endswith(".pdmodel") else set())
        assert len(row) > len(unread)
        assert all(0 <= row[kind] < 1e-4 for kind in row.keys() - unread)


def test_reads_an_export_without_the_newer_keys(families, tmp_path):
    content = yaml.safe_load((families("audio").folder / "model.yaml").read_text(encoding="utf-8"))
    (tmp_path / "model.yaml").write_text(
        yaml.safe_dump({k: v for k, v in content.items() if k not in ("multilabel", "modalities")})
    )
    manifest = read_manifest(tmp_path)
    assert not manifest.multi_label and manifest.modalities == {}
    assert manifest.view_average == "probabilities"


def test_golden_inputs_are_valid(family):
    golden = family.inputs
    for name, spec in read_manifest(family.folder).inputs.items():
        assert golden[name].shape == (2, *spec.shape[1:]) and golden[name].dtype == spec.dtype
        if golden[name].ndim > 1:
            assert (golden[name][0] != golden[name][1]).any(), "the two samples are equal"
    if family.name == "tags":
        assert golden["num_frames"].tolist() == [8, 4]
        assert golden["rgb"].min() == 0 and golden["rgb"].max() == 255
    logits = family.golden["logits"]
    assert np.ptp(logits) > 0.1 and np.abs(np.diff(logits, axis=0)).max() > 1e-3


def test_golden_inputs_by_type():
    made = golden_inputs(
        {"n": np.int64(7), "bytes": np.zeros((3, 2), np.uint8), "noise": np.zeros(5, np.float32)}
    )
    assert made["n"].tolist() == [7, 4] and made["n"].dtype == np.int64
    assert made["bytes"].dtype == np.uint8 and made["bytes"].shape == (2, 3, 2)
    assert made["noise"].dtype == np.float32 and made["noise"].std() > 0.3


@pytest.mark.parametrize(
    ("name", "kind", "suffix"),
    [
        (name, *replay)
        for name in FAMILIES
        for replay in [*PROGRAMS, ("eager", "")]
        if name == "tags" or replay != ("paddle", ".json")  # the test after this one
    ],
)
def test_golden_replays_on_every_backend(families, trained, name, kind, suffix):
    skip_without(kind, suffix)
    family = families(name)
    source = trained(family) if kind == "eager" else family.folder / f"{name}{suffix}"
    # OpenVINO lacks the log_softmax and conv3d of Paddle programs.
    if (kind, suffix) == ("openvino", ".pdmodel") and name != "tags":
        message = r"openvino cannot open it: .*: export with --format onnx"
        with pytest.raises(BackendError, match=message):
            open_backend(source, kind)
        return
    assert_replays(family, open_backend(source, kind, device="cpu", threads=1))


@pytest.mark.slow  # a tagger and `exported` have this program, too
@pytest.mark.parametrize("name", ["audio", "both"])
def test_golden_replays_in_a_program_that_takes_long_to_write(families, tmp_path, name):
    family = families(name)
    export(family.cfg, family.weights, tmp_path, ["pir"])
    backend = open_backend(tmp_path / f"{name}.json", "paddle", device="cpu", threads=1)
    assert_replays(family, backend)


def assert_replays(family: Family, backend: Backend) -> None:
    inputs, logits = family.inputs, family.golden["logits"]
    assert {name: spec.dtype for name, spec in backend.inputs.items()} == {
        n: str(a.dtype) for n, a in inputs.items()
    }
    reordered = dict(reversed(list(inputs.items())))  # inputs are matched by name
    tolerance = 1e-4 * np.abs(logits).max()
    for rows in ([0, 1], [1], [0, 1, 1]):
        result = backend.run({name: array[rows] for name, array in reordered.items()})
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, logits[rows], rtol=0, atol=tolerance)
    name = next(iter(inputs))
    other = np.float64 if inputs[name].dtype != np.float64 else np.float32
    message = rf"takes {name} as {inputs[name].dtype} .*it was given float64"
    with pytest.raises(BackendError, match=message):
        backend.run({**inputs, name: inputs[name].astype(other)})
    with pytest.raises(BackendError, match=r"takes \w+ as .*was given only x"):
        backend.run({"x": inputs[name]})


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *itertools.product(("tags", "audio"), ("paddle", "onnxruntime", "openvino", "eager")),
        pytest.param("both", "paddle", marks=pytest.mark.slow),  # slower than the other runtimes
        *itertools.product(["both"], ("onnxruntime", "openvino", "eager")),
    ],
)
def test_scores_equal_those_of_a_test(families, name, kind, predictor):
    family = families(name)
    predictor = predictor(family, kind)
    for batch_size in (1, 3):
        assert_as_tested(list(predictor.predict(family.list, batch_size, topk=NUM_CLASSES)), family)
    rows = [tuple(np.round(list(scores.values()), 3)) for scores in family.expected.values()]
    assert len(set(rows)) == len(rows), "the videos have equal scores, so this test could not fail"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tags", "paddle"),
        ("tags", "onnxruntime"),
        ("tags", "openvino"),
        ("tags", "eager"),
        ("audio", "paddle"),
        pytest.param("both", "paddle", marks=pytest.mark.slow),  # the very same code
    ],
)
def test_threads_share_a_predictor(families, name, kind, predictor):
    family = families(name)
    predictor = predictor(family, kind)

    def predict_all(batch_size: int):
        return list(predictor.predict(family.list, batch_size, topk=NUM_CLASSES))

    half_read = predictor.predict(family.list, topk=NUM_CLASSES)
    first = next(half_read)
    with ThreadPoolExecutor(4) as threads:
        for results in threads.map(predict_all, (1, 2, 3, 1)):
            assert_as_tested(results, family)
    assert_as_tested([first, *half_read], family)


def test_runs_of_a_runtime_take_turns_unless_it_is_concurrent():
    class Slow(Backend):
        name = "slow"
        running = most = 0

        def compute(self, arrays):
            self.running += 1
            self.most = max(self.most, self.running)
            if self.concurrent:
                together.wait()
            self.running -= 1
            return np.zeros((1, 1), np.float32)

    together = threading.Barrier(4, timeout=30)
    for concurrent, most in ((False, 1), (True, 4)):
        backend = Slow(None, Options())
        backend.concurrent, backend.inputs = concurrent, {}
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(backend.run, [{}] * 4))
        assert backend.most == most


def test_a_built_model_predicts_with_its_config(family, trained):
    predictor = Predictor(trained(family), family.cfg, class_names=NAMES, device="cpu")
    assert_as_tested(list(predictor.predict(family.list, 2, topk=NUM_CLASSES)), family)


def test_without_model_yaml_the_framework_defines_the_scores(families, tmp_path):
    family = families("tags")
    for file in family.folder.glob("tags.pd*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    predictor = Predictor(tmp_path / "tags.pdmodel", family.config, class_names=NAMES, device="cpu")
    assert_as_tested(list(predictor.predict(family.list, 3, topk=NUM_CLASSES)), family)


def test_class_names_of_a_built_model_come_from_the_class_folders(small):
    cfg = small()
    predictor = Predictor(build_model(cfg), cfg, device="cpu")
    assert predictor.labels == ["blue sky", "green", "红色"]
    train = {"format": "VideoDataset", "file_path": "nowhere"}
    cfg = small(DATASET={**cfg.origin.data["DATASET"], "train": train})
    assert Predictor(build_model(cfg, 3), cfg, device="cpu").labels is None
