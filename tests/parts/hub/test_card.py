"""What is uploaded of a model, and its card."""

import shutil

import numpy as np
import pytest
import yaml

from paddlevideo.commands import predict as predict_command
from paddlevideo.config.schema import ConfigError
from paddlevideo.hub.bundle import HubError, bundle
from paddlevideo.hub.card import card
from paddlevideo.runtimes.manifest import ManifestError, sha256
from paddlevideo.weights import WeightsError, write_arrays
from tests.parts.conftest import NAMES
from tests.parts.report.run_folders import NASTY, make_run, write_best


@pytest.fixture
def run_folder(exported, tmp_path):
    """The folder of a run with an export and a weight file in it."""
    folder = make_run(tmp_path / "run")
    write_best(folder, NAMES, [0, 1, 2, 2], np.eye(3)[[0, 1, 2, 1]] * 4.0)
    shutil.copytree(exported.folder, folder / "inference")
    shutil.copy(exported.weights, folder / "tiny_best.pdparams")
    shutil.copy(exported.config, folder / "run.yaml")
    return folder


def metadata(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_card_of_an_export(run_folder):
    for source in (run_folder, run_folder / "inference"):
        model = bundle(source)
        text = card(model, "me/my-model", "huggingface", "apache-2.0")
        assert metadata(text) == {
            "license": "apache-2.0",
            "library_name": "paddlevideo",
            "pipeline_tag": "video-classification",
            "tags": ["paddlepaddle", "video-classification"],
        }
        assert "# my-model\n" in text
        assert "ResNetTweaksTSN + ppTSNHead, 3 classes, one class per video." in text
        assert "| best validation top1 acc | 0.7500 |" in text
        assert "In the order of their ids: appel, birne, kürbis." in text
        assert "| frames | " in text and "paddlevideo models pull me/my-model -o inf" in text
        for name in model.files:
            assert f"| {sha256(run_folder / 'inference' / name)} |" in text
    assert set(model.files) >= {"model.yaml", "golden.npz", "tiny.pdiparams"}
    assert "tiny_best.pdparams" not in model.files


def test_the_card_of_a_weight_file(run_folder):
    model = bundle(run_folder / "tiny_best.pdparams")
    assert set(model.files) == {"tiny_best.pdparams", "run.yaml"} and model.labels == NAMES
    text = card(model, "me/x", "modelscope", None)
    assert "license" not in metadata(text) and "## Inputs" not in text
    assert "With paddlevideo and its extra `modelscope`:" in text
    assert "paddlevideo models pull me/x --hub modelscope -o inference/x" in text
    assert 'paddlevideo.Predictor(config="inference/x/run.yaml", weights="inf' in text


@pytest.mark.parametrize("kind", ["inference", "tiny_best.pdparams"])
def test_the_commands_of_a_card_are_right(run_folder, kind):
    text = card(bundle(run_folder / kind), "me/x", "huggingface", None)
    commands = text.split("```\n")[1].splitlines()
    words = commands[1].split()
    assert words[:2] == ["paddlevideo", "predict"]
    args = predict_command.make_parser().parse_args(words[2:])
    assert args.input_file == ["video.mp4"] and bool(args.weights) == (kind != "inference")
    compile(text.split("```python\n")[1].split("```")[0], "card", "exec")


def test_without_a_run_no_accuracy_is_stated(exported, tmp_path):
    shutil.copytree(exported.folder, tmp_path / "out")
    text = card(bundle(tmp_path / "out"), "me/x", "huggingface", None)
    assert "Not stated: the files of the training run were not next to the model." in text


def test_names_cannot_begin_markup(run_folder):
    model = bundle(run_folder / "tiny_best.pdparams")
    model = type(model)(**{**vars(model), "name": "a`b|c", "labels": NASTY})
    text = card(model, "me/x", "huggingface", None)
    assert "a\\`b\\|c" in text and "<script" not in text and "new\\\\nline" in text
    assert "\u202e" not in text and "x^2\\$" in text


def test_many_classes_are_shortened(run_folder):
    model = bundle(run_folder / "inference")
    names = [f"class number {number}" for number in range(3862)]
    text = card(type(model)(**{**vars(model), "labels": names}), "me/x", "huggingface", None)
    assert ", and 3462\nmore." in text or ", and 3462 more." in text.replace("\n", " ")
    model = type(model)(**{**vars(model), "labels": None, "num_classes": None, "multi_label": True})
    text = card(model, "me/x", "huggingface", None)
    assert "ppTSNHead, several classes per video." in text and "names are not known" in text


# --- mistakes -------------------------------------------------------------------------------------


def test_what_is_not_a_model(run_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(HubError, match="empty: no model.yaml in it.*export the model first"):
        bundle(tmp_path / "empty")
    with pytest.raises(HubError, match=r"a\.txt: expected an exported folder, or a weight file"):
        bundle(tmp_path / "a.txt")
    with pytest.raises(WeightsError, match="there is no such file"):
        bundle(tmp_path / "none.pdparams")
    with pytest.raises(HubError, match=r"x_latest\.pdstate: expected"):
        bundle(run_folder / "x_latest.pdstate")
    (run_folder / "run.yaml").unlink()
    with pytest.raises(ConfigError, match=r"no run\.yaml next to it"):
        bundle(run_folder / "tiny_best.pdparams")


def test_a_damaged_export_is_not_shared(run_folder):
    with (run_folder / "inference/tiny.pdiparams").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ManifestError, match=r"tiny\.pdiparams: damaged"):
        bundle(run_folder)


def test_a_weight_file_that_is_not_finite_is_not_shared(run_folder):
    write_arrays(run_folder / "tiny_best.pdparams", {"w": np.full(3, np.nan, np.float32)})
    with pytest.raises(WeightsError, match="not finite"):
        bundle(run_folder / "tiny_best.pdparams")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", ".ssh", "c:x", "a\\b"])
def test_a_manifest_names_no_other_files(run_folder, name):
    path = run_folder / "inference/model.yaml"
    content = yaml.safe_load(path.read_text("utf-8"))
    content["files"][name] = "0" * 64
    path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    with pytest.raises(ManifestError, match="is not the name of a file in this folder"):
        bundle(run_folder)
