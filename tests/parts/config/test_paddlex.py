"""Training configs of PaddleX, translated: every key has a row, and the result trains."""

import dataclasses
import shlex
import typing
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from paddlevideo import api, cli
from paddlevideo.config.paddlex import rules, translate
from paddlevideo.config.paddlex.sections import MODELS, RUN_MODES, PaddleXConfig
from paddlevideo.config.schema import ConfigError
from paddlevideo.config.shipped import configs
from paddlevideo.engine.build import load_config
from paddlevideo.engine.classes import load_records
from tests.clips import write_clip

R50 = "PP-TSM-R50_8frames_uniform"
WEIGHTS = f"https://host/official_pretrained_model/{R50}_pretrained.pdparams"
# The keys of PaddleX's own files, and two that its page documents.
CONTENT = {
    "Global": {"model": R50, "mode": "train", "dataset_dir": "data/k400_examples",
               "device": "gpu:0,1,2,3", "output": "output"},
    "CheckDataset": {"convert": {"enable": False, "src_dataset_type": None},
                     "split": {"enable": False, "train_percent": None, "val_percent": None}},
    "Train": {"num_classes": 5, "epochs_iters": 20, "batch_size": 16, "learning_rate": 0.01,
              "pretrain_weight_path": WEIGHTS, "warmup_steps": 4, "resume_path": None,
              "log_interval": 10, "eval_interval": 1, "save_interval": 1, "amp": "O1",
              "dy2st": False},
    "Evaluate": {"weight_path": "output/best_model/best_model.pdparams", "log_interval": 1,
                 "batch_size": 2},
    "Export": {"weight_path": WEIGHTS},
    "Predict": {"batch_size": 1, "model_dir": "output/best_model/inference", "input": "a.mp4",
                "kernel_option": {"run_mode": "paddle"}},
}  # fmt: skip


def leaves(data: dict, before: str = "") -> list[str]:
    found = []
    for key, value in data.items():
        found += leaves(value, f"{before}{key}.") if isinstance(value, dict) else [before + key]
    return found


@pytest.fixture
def write(tmp_path, monkeypatch):
    """`write({"Train.amp": "O2"})`: PaddleX's file with other values, in the working directory."""
    monkeypatch.chdir(tmp_path)

    def make(changes: dict | None = None, content: dict = CONTENT) -> Path:
        data = deepcopy(content)
        for key, value in (changes or {}).items():
            *parents, last = key.split(".")
            here = data
            for part in parents:
                here = here.setdefault(part, {})
            here[last] = value
        path = tmp_path / "paddlex.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        return path

    return make


def rows_of(path: Path, *overrides: str) -> dict[str, rules.Row]:
    return {row.key: row for row in translate.translate(path, overrides).rows}


def config_of(path: Path, folder: Path, *overrides: str):
    """The translated config, loaded."""
    out = folder / "mine.yaml"
    out.write_text(translate.translate(path, overrides).text(str(path)), encoding="utf-8")
    return load_config(out)


def test_every_key_has_a_row_with_its_line(write):
    path = write()
    found = translate.translate(path)
    assert [row.key for row in found.rows] == leaves(CONTENT)
    lines = path.read_text(encoding="utf-8").splitlines()
    for row in found.rows:
        number = int(row.where.removeprefix(f"{path}:"))
        assert row.key.split(".")[-1] in lines[number - 1]
        assert row.text and row.outcome in ("translated", "no effect")
    assert len(found.table()) == len(found.rows)


def test_values_arrive_in_the_config(write, tmp_path):
    cfg = config_of(write(), tmp_path)
    rate = cfg.OPTIMIZER.args["learning_rate"].args
    assert (cfg.epochs, rate["max_epoch"], rate["warmup_epochs"]) == (20, 20, 4)
    assert (rate["cosine_base_lr"], rate["warmup_start_lr"]) == (0.01, 0.005)
    data = cfg.DATASET
    assert (data.batch_size, data.test_batch_size, data.num_workers) == (16, 2, 4)
    assert (cfg.log_interval, cfg.val_interval, cfg.save_interval) == (10, 1, 1)
    assert (cfg.output_dir, cfg.use_gpu, cfg.amp, cfg.amp_level) == ("output", True, True, "O1")
    assert cfg.MODEL.args["head"].args["num_classes"] == 5
    assert cfg.MODEL.args["backbone"].args.get("pretrained") is None
    assert cfg.DATASET.class_names == "data/k400_examples/label.txt"
    lists = [getattr(cfg.DATASET, split).args for split in ("train", "valid", "test")]
    assert [Path(args["file_path"]).name for args in lists] == ["train.txt", "val.txt", "val.txt"]
    assert {args["data_prefix"] for args in lists} == {"data/k400_examples"}


def test_the_commands_of_each_mode(write, monkeypatch):
    """Each of them is parsed by the parser of its verb."""
    found = translate.translate(write())
    weights = f"{R50}_pretrained.pdparams"
    assert found.commands("mine.yaml") == [
        f"paddlevideo train --validate -c mine.yaml -w {weights}",
        "paddlevideo test -c mine.yaml -w output/ppTSM_best.pdparams",
        f"paddlevideo export -c mine.yaml -p {weights} -o output/inference",
        "paddlevideo predict -b 1 --model output/inference -i a.mp4 --backend paddle",
        "paddlevideo check-data data/k400_examples",
    ]
    for command in found.commands("mine.yaml"):
        _, verb, *words = shlex.split(command)
        module = __import__(cli.VERBS[verb][0], fromlist=["make_parser"])
        module.make_parser(verb).parse_args(words)
    verbs = {"evaluate": "test", "check_dataset": "check-data", "predict": "predict"}
    for mode, verb in verbs.items():
        first = translate.translate(write({"Global.mode": mode})).commands("m.yaml")[0]
        assert first.startswith(f"paddlevideo {verb} ")


@pytest.mark.parametrize(
    ("key", "value", "outcome", "text"),
    [
        ("Global.device", "cpu", "translated", "use_gpu: false"),
        ("Global.device", "gpu", "translated", "use_gpu: true"),
        ("Global.device", "gpu:3", "translated", "CUDA_VISIBLE_DEVICES=3"),
        ("Global.device", "gpu:0,1", "translated", "launch --gpus=0,1 main.py"),
        ("Global.device", "npu:0", "not supported", "only CPU and GPU are"),
        ("Global.device", None, "no effect", "a GPU if there is one"),
        ("Global.dataset_dir", None, "no effect", "--data FOLDER"),
        ("CheckDataset.convert.enable", True, "not supported", "no conversion of videos"),
        ("CheckDataset.split.enable", True, "not supported", "check-data data/k400_examples"),
        ("Train.num_classes", None, "translated", "the number in the data"),
        ("Train.learning_rate", None, "no effect", "that of the shipped config"),
        ("Train.learning_rate", 0.001, "translated", "cosine_base_lr: 0.001"),
        ("Train.pretrain_weight_path", None, "no effect", "starts from random weights"),
        ("Train.pretrain_weight_path", "a b.pdparams", "translated", "-w a b.pdparams"),
        ("Train.resume_path", "output/best_model/best_model.pdparams", "not supported", "-w FILE"),
        ("Train.amp", "OFF", "no effect", "mixed precision is off"),
        ("Train.dy2st", True, "no effect", "export writes the static program"),
        ("Train.epochs_iters", None, "no effect", "not set"),
        ("Evaluate.weight_path", "w.pdparams", "translated", "-w w.pdparams"),
        ("Predict.kernel_option.run_mode", "trt_int8", "not supported", "use fp16"),
        ("Predict.input", "https://host/a.mp4", "translated", "download it first"),
        ("Predict.use_hpip", True, "no effect", "--backend auto"),
        ("Predict.hpi_config", {"backend": "openvino"}, "no effect", "--backend selects"),
    ],
)
def test_rules(write, tmp_path, key, value, outcome, text):
    path = write({key: value})
    row = rows_of(path)[key]
    assert (row.outcome, row.value) == (outcome, value) and text in row.text
    config_of(path, tmp_path)


@pytest.mark.parametrize("mode", RUN_MODES)
def test_run_modes_become_flags(write, mode):
    row = rows_of(write({"Predict.kernel_option.run_mode": mode}))["Predict.kernel_option.run_mode"]
    expected = "tensorrt" if mode.startswith("trt") else "paddle"
    assert row.text.startswith(f"predict --backend {expected}")
    assert ("--precision fp16" in row.text) == ("16" in mode)


def schema_keys(section: type, before: str = "") -> list[str]:
    """The keys of a section of PaddleX, those of its sections included."""
    hints = typing.get_type_hints(section)
    found = []
    for name, hint in hints.items():
        inner = [part for part in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(part)]
        key = f"{before}{name}"
        found += schema_keys(inner[0], f"{key}.") if inner else [key]
    return found


def test_every_key_of_the_schema_has_one_rule():
    keys = schema_keys(PaddleXConfig)
    known = [*rules.SAME, *rules.SPECIAL, *rules.NO_EFFECT]
    assert sorted(keys) == sorted(known) and len(keys) > 30
    assert set(leaves(CONTENT)) < set(keys)


@pytest.mark.parametrize("key", ["CheckDataset", "Export", "Train", "Predict.kernel_option"])
@pytest.mark.parametrize("value", [None, {}])
def test_empty_sections_are_not_set(write, tmp_path, key, value):
    row = rows_of(write({key: value}))[key]
    assert (row.outcome, row.text) == ("no effect", "not set")


def test_a_short_file_is_enough(write, tmp_path):
    cfg = config_of(write(content={"Global": {"model": R50}}), tmp_path)
    assert cfg.epochs == 80 and cfg.MODEL.args["head"].args.get("num_classes") is None


def test_files_of_an_earlier_training_of_paddlex_are_used(write, tmp_path):
    path = write()
    for name in ("best_model.pdparams", "inference/inference.yml"):
        file = tmp_path / "output" / "best_model" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = rows_of(path)
    assert found["Evaluate.weight_path"].text == "-w output/best_model/best_model.pdparams"
    assert found["Predict.model_dir"].text == "predict --model output/best_model/inference"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("Train.epoch_iters", 3, "Train.epoch_iters is not known; did you mean 'epochs_iters'?"),
        ("Train.num_class", 3, "Train.num_class is not known; did you mean 'num_classes'?"),
        ("Trian.batch_size", 3, "Trian is not known; did you mean 'Train'?"),
        ("Train.batch_size", 0, "Train.batch_size is 0, expected at least 1"),
        ("Train.learning_rate", "0.01x", "learning_rate is '0.01x', expected float"),
        ("Train.learning_rate", -1.0, "learning_rate is -1.0, expected at least 0"),
        ("Train.amp", "O3", "Train.amp is 'O3', expected 'O1' or 'O2' or 'OFF'"),
        ("Global.mode", "evaluation", "Global.mode is 'evaluation', expected 'check_dataset'"),
        ("Global.model", "PP-TSM-R50_8frames", f"no model for videos; did you mean '{R50}'?"),
        ("Global.model", "PP-LCNet_x1_0", "'PP-LCNet_x1_0' is no model for videos; known: PP-TSM"),
        ("Predict.kernel_option.run_mode", "fast", "run_mode is 'fast', expected 'paddle'"),
        ("CheckDataset.split", 5, "CheckDataset.split is 5, expected a map"),
    ],
)
def test_mistakes_have_a_line(write, key, value, message):
    path = write({key: value})
    with pytest.raises(ConfigError) as caught:
        translate.translate(path)
    (found,) = [text for text in caught.value.problems if message in text]
    number = int(found.removeprefix(f"{path}:").split(":")[0])
    line = path.read_text(encoding="utf-8").splitlines()[number - 1]
    assert any(part in line for part in key.split(".")), (found, line)


def test_all_mistakes_are_reported_at_once(write):
    with pytest.raises(ConfigError) as caught:
        translate.translate(write({"Train.a": 1, "Global.b": 2, "Evaluate.batch_size": "x"}))
    assert len(caught.value.problems) == 3


def test_a_file_without_a_model(write):
    with pytest.raises(ConfigError, match="Global lacks 'model'"):
        translate.translate(write(content={"Global": {"output": "o"}}))


def test_overrides_change_paddlex_keys(write):
    found = rows_of(write(), "Train.epochs_iters=3", "Global.device=cpu")
    assert found["Train.epochs_iters"].text.startswith("epochs: 3 ")
    assert found["Train.epochs_iters"].where == "-o Train.epochs_iters=3"
    with pytest.raises(ConfigError, match=r"-o Train.epochs=3: .*did you mean 'epochs_iters'"):
        rows_of(write(), "Train.epochs=3")


# --- models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_each_model_has_a_config(write, tmp_path, model):
    if MODELS[model] not in {full.split("/")[-1] for full in configs()}:
        with pytest.raises(ConfigError, match=f"no config {MODELS[model]} that trains {model}"):
            translate.translate(write({"Global.model": model}))
        return
    cfg = config_of(write({"Global.model": model}), tmp_path)
    frames = 16 if "16frames" in model else 8
    assert cfg.PIPELINE.test.sample.args["num_seg"] == frames
    assert {s.decode.name for s in (cfg.PIPELINE.train, cfg.PIPELINE.test)} == {"VideoDecoder"}


def test_classes_of_a_model_with_its_classifier_in_the_backbone(write, tmp_path, monkeypatch):
    """PaddleVideo's PP-TSMv2 has `class_num` in the backbone, and reads folders of frames."""
    base = tmp_path / "base.yaml"
    base.write_text(
        "MODEL: {framework: Recognizer2D, backbone: {name: PPTSM_v2, num_seg: 8, class_num: 400},"
        " head: {name: MoViNetHead}}\nmodel_name: ppTSMv2\n",
        encoding="utf-8",
    )
    name = "PP-TSMv2-LCNetV2_8frames_uniform"
    for module in (translate, rules):
        monkeypatch.setattr(module, "configs", lambda: {f"x/{MODELS[name]}": base})
    found = translate.translate(write({"Global.model": name}))
    assert found.data["MODEL"] == {"backbone": {"pretrained": None, "class_num": 5}}
    assert found.data["PIPELINE"]["train"]["decode"] == {"name": "VideoDecoder"}
    assert "output/ppTSMv2_best.pdparams" in " ".join(found.commands("m.yaml"))


def test_a_config_of_paddlevideo_needs_no_translation(write):
    path = write(content={"MODEL": {"framework": "Recognizer2D"}, "Global": {"device": "gpu"}})
    with pytest.raises(ConfigError, match="needs no translation: paddlevideo train -c"):
        translate.translate(path)


def test_the_configs_that_paddlex_writes_load(write, tmp_path):
    """PaddleX trains PaddleVideo with configs that have the sections Global and Infer."""
    text = configs()["recognition/pptsm/pptsm_k400_videos_uniform"].read_text(encoding="utf-8")
    path = tmp_path / "config.yaml"
    more = {
        "Global": {"pretrained_model": WEIGHTS, "checkpoints": None, "to_static": False},
        "Infer": {"transforms": [{"ReadVideo": {"num_seg": 8}}]},
    }
    path.write_text(text + yaml.safe_dump(more), encoding="utf-8")
    notes = load_config(path).origin.notes
    assert any("Global has no effect: flags set these: -w" in note for note in notes)
    assert any("Infer has no effect" in note for note in notes)


# --- the command and a training -----------------------------------------------------------------


def test_the_command_prints_a_table_and_never_replaces_a_file(write, tmp_path, capsys):
    path = write()
    out = tmp_path / "mine.yaml"
    assert cli.main(["configs", "from-paddlex", str(path), str(out)]) == 0
    printed = capsys.readouterr().out
    for key in leaves(CONTENT):
        assert f"  {key} " in printed
    assert "Train.epochs_iters" in out.read_text(encoding="utf-8")
    assert load_config(out).epochs == 20
    assert cli.main(["configs", "from-paddlex", str(path), str(out)]) == 1
    assert "exists; choose another file" in capsys.readouterr().err


def test_the_command_prints_the_config(write, tmp_path, capsys):
    assert cli.main(["configs", "from-paddlex", str(write()), "-o", "Train.epochs_iters=7"]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_config(printed).epochs == 7
    assert cli.main(["configs", "from-paddlex", "missing.yaml"]) == 1
    assert "missing.yaml: cannot be read" in capsys.readouterr().err


SMALL = (
    *("MODEL.backbone.depth=10", "MODEL.backbone.base_channels=8", "MODEL.backbone.num_seg=4"),
    *("MODEL.head.in_channels=64", "DATASET.num_workers=0", "PRECISEBN=null", "max_iters=2"),
    *(f"PIPELINE.{split}.sample.num_seg=4" for split in ("train", "valid", "test")),
    *(f"PIPELINE.{split}.transform.0.Scale.short_size=40" for split in ("train", "valid", "test")),
    *("PIPELINE.train.transform.1.MultiScaleCrop.target_size=40",),
    *("PIPELINE.train.transform.2.RandomCrop.target_size=32",),
    *(f"PIPELINE.{split}.transform.1.CenterCrop.target_size=32" for split in ("valid", "test")),
)


def make_data(folder: Path) -> None:
    """A data set as PaddleX's check accepts it."""
    names = ["abseiling", "air drumming", "红色"]
    (folder / "videos").mkdir(parents=True)
    for split, count in (("train", 6), ("val", 3)):
        lines = []
        for number in range(count):
            path = folder / "videos" / f"{split}{number}.mp4"
            write_clip(path, 8 + number + 10 * (split == "val"), 48, 64)
            lines.append(f"videos/{path.name} {number % 3}\n")
        (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    lines = [f"{number} {name}\n" for number, name in enumerate(names)]
    (folder / "label.txt").write_text("".join(lines), encoding="utf-8")


def test_the_translated_config_trains_on_paddlex_data(write, tmp_path):
    make_data(tmp_path / "data" / "own")
    changes = {
        "Global.dataset_dir": "data/own",
        "Global.device": "cpu",
        "Train.num_classes": 3,
        "Train.batch_size": 2,
        "Train.epochs_iters": 1,
        "Train.warmup_steps": 0,
        "Train.amp": "OFF",
    }
    out = tmp_path / "mine.yaml"
    text = translate.translate(write(changes)).text("paddlex.yaml")
    out.write_text(text, encoding="utf-8")
    state = api.train(load_config(out, SMALL))
    assert state.class_names == ["abseiling", "air drumming", "红色"]
    assert (tmp_path / "output" / "ppTSM_best.pdparams").exists()
    result = api.test(load_config(out, SMALL), "output/ppTSM_best.pdparams")
    assert result is not None


def test_the_folder_of_a_data_set_is_enough(write, tmp_path):
    """`--data FOLDER` finds PaddleX's lists and its class names."""
    make_data(tmp_path / "data" / "own")
    config_of(write({"Train.num_classes": None}), tmp_path)
    cfg = load_config(tmp_path / "mine.yaml", ["DATASET.root=data/own"])
    _, classes = load_records(cfg, ("train", "valid"))
    assert classes.names == ["abseiling", "air drumming", "红色"] and classes.num == 3
