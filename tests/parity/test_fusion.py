"""Late fusion against the numbers of MMAction2's report_accuracy.py."""

import json
import pickle
import re

import numpy as np
import pytest

from paddlevideo.metrics.fusion import accuracies, fuse
from paddlevideo.metrics.scores import label_ranks
from paddlevideo.report.fusion import report_accuracy

CASES = [(a, b, soft) for a, b in ((1, 1), (1, 2), (2, 1), (1, 0)) for soft in (False, True)]
# Name in this package -> in MMAction2.
NAMES = {"top1": "top1", "top5": "top5", "mean_class_accuracy": "mean_class"}


@pytest.fixture(scope="module")
def golden(goldens):
    return json.loads((goldens / "audio" / "fusion_golden.json").read_text())


def case_name(a, b, soft):
    return f"coef_{a}_{b}_softmax_{str(soft).lower()}"


def renamed(numbers):
    return {NAMES[key]: numbers[key] for key in NAMES}


def write_without_ids(golden, folder, suffix, dtype) -> list[str]:
    """Write both modalities as MMAction2's test does, and the list of their videos."""
    files = []
    for name in ("audio", "visual"):
        path, rows = folder / f"{name}{suffix}", np.array(golden[name], dtype)
        if suffix == ".pkl":
            path.write_bytes(pickle.dumps(list(rows)))
        else:
            path.write_text(json.dumps(rows.tolist()))
        files.append(str(path))
    lines = [f"video_{i} {100 + i} {label}\n" for i, label in enumerate(golden["labels"])]
    (folder / "list.txt").write_text("".join(lines))
    return files


def test_covers_every_case(golden):
    cases = {case_name(*case) for case in CASES}
    assert cases | {"audio_alone", "visual_alone"} == set(golden["metrics"])


@pytest.mark.parametrize("name", ["audio", "visual"])
def test_accuracy_of_each_modality_alone(golden, name):
    numbers = accuracies(np.array(golden[name]), np.array(golden["labels"]))
    expected = golden["metrics"][f"{name}_alone"]
    assert renamed(numbers) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("suffix", [".pkl", ".json"])
@pytest.mark.parametrize(("a", "b", "soft"), CASES)
def test_printed_lines_and_fused_scores(golden, tmp_path, a, b, soft, suffix):
    """Printed lines are MMAction2's; fused scores have the same bits if the files hold float32."""
    files = write_without_ids(golden, tmp_path, suffix, "float32")
    expected = golden["metrics"][case_name(a, b, soft)]
    out, listed = tmp_path / "fused.json", str(tmp_path / "list.txt")
    text = report_accuracy(files, listed, [a, b], apply_softmax=soft, out=str(out))
    assert re.findall(r"^(?:Mean Class|Top \d) Accuracy: .*$", text, re.M) == expected["cli_stdout"]
    written = json.loads(out.read_text())
    numbers = {name: expected[name] for name in NAMES.values()}
    assert renamed(written["numbers"]) == pytest.approx(numbers, rel=1e-12)
    row = written["results"][0]
    assert (row["id"], row["label"]) == ("video_0", golden["labels"][0])
    if suffix == ".pkl" or not soft:
        assert row["scores"] == expected["fused_row0"]
    else:  # JSON gives float64, whose softmax is more precise than the golden's float32
        np.testing.assert_allclose(row["scores"], expected["fused_row0"], rtol=0, atol=1e-7)


def test_mean_class_accuracy_includes_a_class_that_is_only_predicted(golden):
    corner = golden["corner_absent_class"]
    numbers = accuracies(np.array(corner["scores"], float), np.array(corner["labels"]))
    assert numbers["mean_class_accuracy"] == corner["mean_class"]


def test_ties(golden):
    """MMAction2 ranks the highest class first for top-k, the lowest for the mean class accuracy."""
    corner = golden["corner_ties"]
    scores = np.repeat(np.array(corner["scores"]), 6, axis=0)
    best = np.flatnonzero(label_ranks(scores, np.arange(6), first_of_ties="highest") == 0)
    assert best.tolist() == [corner["top1_class"]]
    for label in range(6):
        numbers = accuracies(scores[:1], np.array([label]))
        assert (numbers["top1"] == 1) == (label == corner["top1_class"])
        assert (numbers["mean_class_accuracy"] == 1) == (label == corner["argmax_class"])


def test_the_sum_is_float64(golden):
    fused = fuse([np.array(golden[name], np.float32) for name in ("audio", "visual")], [1, 2])
    assert str(fused.dtype) == golden["metrics"]["coef_1_2_softmax_false"]["fused_dtype"]
