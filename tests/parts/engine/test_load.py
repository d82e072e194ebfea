"""A trained model without its config spelled again, and with a config of other classes."""

import shutil

import numpy as np
import pytest

from paddlevideo.commands import export as export_command
from paddlevideo.commands import train as command
from paddlevideo.config.schema import ConfigError
from paddlevideo.engine.build import build_model
from paddlevideo.engine.checkpoint import TrainState
from paddlevideo.engine.classes import Classes
from paddlevideo.engine.load import config_of_run, load_trained, trained_model
from paddlevideo.weights import WeightsError, state_arrays, write_arrays

NAMES = ["archery", "bowling", "climbing", "diving", "eating"]


def weights_of(cfg, path, names=None, num_classes=5):
    """Write weights of another number of classes than the three of the data."""
    state = TrainState(build_model(cfg, num_classes), None, None, class_names=names)
    path.parent.mkdir(exist_ok=True)
    write_arrays(path, state.model_arrays())
    return path


def test_reads_the_config_next_to_the_weights(small, tmp_path):
    cfg = small()
    weights = tmp_path / "a_best.pdparams"
    with pytest.raises(ConfigError, match=r"a_best\.pdparams: there is no such file or folder"):
        config_of_run(weights)
    weights.touch()
    with pytest.raises(ConfigError, match=r"a_best\.pdparams: no run\.yaml next to it.* with -c"):
        config_of_run(weights)
    shutil.copy(cfg.origin.path, tmp_path / "run.yaml")
    found = config_of_run(tmp_path / "a_best.pdparams", ["epochs=9"])
    assert found.model_name == cfg.model_name and found.epochs == 9
    with pytest.raises(ConfigError, match="give the config of the student with -c"):
        config_of_run(tmp_path / "a_best_student.pdparams")


def test_only_a_test_of_weights_needs_no_config(small, tmp_path, capsys):
    shutil.copy(small().origin.path, tmp_path / "run.yaml")
    weights = str(tmp_path / "a_best.pdparams")
    args = command.make_parser().parse_args(["--test", "-w", weights, "-o", "seed=3"])
    assert command.load_config(args).seed == 3
    for flags in (["--test"], ["-w", weights], ["--check"], ["--validate", "-w", weights]):
        with pytest.raises(SystemExit):
            command.make_parser().parse_args(flags)
        assert "required: -c/--config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "run/inference"),
        (["-o", "there"], "there"),
        (["-c", "run/run.yaml"], None),  # inference/<model_name>, as PaddleVideo's users know it
        (["-c", "run/run.yaml", "-o", "there"], "there"),
    ],
)
def test_an_export_goes_beside_the_run_without_a_config(
    small, tmp_path, monkeypatch, flags, expected
):
    (tmp_path / "run").mkdir()
    shutil.copy(small().origin.path, tmp_path / "run/run.yaml")
    monkeypatch.chdir(tmp_path)
    calls = []
    real = export_command.load

    def load(target):
        if target.startswith("paddlevideo.exporting"):
            return lambda *args: calls.append(args)
        return (lambda: None) if target.startswith("paddlevideo.dist") else real(target)

    monkeypatch.setattr(export_command, "load", load)
    words = ["-p", "run/a_best.pdparams", *flags]
    export_command.work(export_command.make_parser().parse_args(words))
    ((cfg, weights, folder, *_),) = calls
    assert cfg.model_name == "ppTSN" and weights == "run/a_best.pdparams"
    assert (folder and str(folder)) == expected


def test_a_classifier_of_another_width_is_named_with_both_classes(small, tmp_path):
    cfg = small()
    nameless = weights_of(cfg, tmp_path / "run/nameless.pdparams")
    with pytest.raises(WeightsError) as raised:
        trained_model(cfg, nameless)
    text = str(raised.value)
    assert text.startswith(f"{nameless} has 5 classes, and the config or its data has 3 classes (")
    assert "blue sky" in text and "another model" not in text
    assert "give the config of its run, or start a training from it with python main.py -w" in text
    assert "head.fc.weight is [" in text and ", 5] in the file" in text
    named = weights_of(cfg, tmp_path / "run/named.pdparams", NAMES)
    (tmp_path / "run/run.yaml").touch()
    wider = small("MODEL.head.num_classes=3")
    with pytest.raises(WeightsError) as raised:
        trained_model(wider, named)
    text = str(raised.value)
    assert f"{named} has 5 classes (archery, bowling, climbing, diving, eating), and" in text
    assert f"of the config is 3; leave out -c: {tmp_path}/run/run.yaml describes it" in text
    shutil.copy(wider.origin.path, tmp_path / "run/run.yaml")
    with pytest.raises(WeightsError, match=r"is 3; leave out what changes the classes of .*run\.y"):
        trained_model(config_of_run(named, ["MODEL.head.num_classes=3"]), named)
    assert trained_model(cfg, named)[1] == Classes(5, NAMES)


def test_another_model_is_still_another_model(small):
    model = build_model(small(), 3)
    arrays = state_arrays(model)
    name = next(name for name in arrays if name.startswith("backbone."))
    for wrong in (
        {k: v for k, v in arrays.items() if k != "head.fc.bias"},
        {**arrays, "head.fc.bias": np.zeros(5, np.float32), name: np.zeros(1, np.float32)},
        {**arrays, "head.more": np.zeros(1, np.float32), "head.fc.bias": np.zeros(5, np.float32)},
    ):
        with pytest.raises(WeightsError, match="These weights belong to another model"):
            load_trained(model, wrong, "w.pdparams", None, Classes(3))
