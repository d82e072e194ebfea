"""What becomes of each key of a PaddleX config: a key of ours, a flag of a command, or nothing."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from paddlevideo.config import yamltree
from paddlevideo.config.paddlex.sections import FLAGS, RUN_MODES, PaddleXConfig
from paddlevideo.config.shipped import configs

# Keys with the same meaning -> ours.
SAME: dict[str, str] = {
    "Global.output": "output_dir",
    "Train.epochs_iters": "epochs",
    "Train.batch_size": "DATASET.batch_size",
    "Train.warmup_steps": "OPTIMIZER.learning_rate.warmup_epochs",
    "Train.log_interval": "log_interval",
    "Train.eval_interval": "val_interval",
    "Train.save_interval": "save_interval",
    "Evaluate.batch_size": "DATASET.test_batch_size",
}
REMARKS = {
    "Train.epochs_iters": "the learning rate decays over as many, where PaddleX keeps 80 or 120",
    "Train.warmup_steps": "it counts epochs, in PaddleX too",
}
NO_EFFECT = {
    "CheckDataset.convert.src_dataset_type": "PaddleX has no conversion of videos",
    "CheckDataset.split.train_percent": "it belongs to the check of the data",
    "CheckDataset.split.val_percent": "it belongs to the check of the data",
    "Train.dy2st": "training runs in dynamic mode; export writes the static program",
    "Evaluate.log_interval": "a test shows a progress bar",
    "Predict.hpi_config": "--backend selects the runtime",
    "Predict.engine": "--backend selects the runtime",
    "Predict.engine_config": "flags set the options of the runtime",
}


@dataclass(frozen=True)
class Row:
    """What became of a key.

    Args:
        where: its file:line.
        outcome: translated, no effect, or not supported.
        text: the key or command that it became, or the reason.
    """

    where: str
    key: str
    value: Any
    outcome: Literal["translated", "no effect", "not supported"]
    text: str


@dataclass
class Translation:
    """A config of this package, and what became of each key of the other one.

    Args:
        data: the config, which names a shipped one as `_base_`.
        rows: one for each key.
        flags: of the commands, as `{"train": ["-w", "a.pdparams"]}`.
        mode: PaddleX's, which is a command here.
    """

    data: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    flags: dict[str, list[str]] = field(default_factory=dict)
    mode: str = "train"

    def set(self, key: str, value: Any) -> None:
        """Set a dotted key of the config."""
        *parents, last = key.split(".")
        here = self.data
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = value

    def text(self, source: str) -> str:
        """The config as YAML, with the table as comments."""
        head = [f"Translated from {source}, a config of PaddleX.", "", *self.table(), ""]
        lines = "".join(f"# {line}".rstrip() + "\n" for line in head)
        return f"{lines}\n{yamltree.dump(self.data)}"

    def table(self) -> list[str]:
        """The rows as aligned lines: line, key, value, and what became of it."""
        cells = [
            (
                row.where.rpartition(":")[2] if not row.where.startswith("-o ") else "-o",
                row.key,
                "null" if row.value is None else str(row.value),
                row.text if row.outcome == "translated" else f"{row.outcome}: {row.text}",
            )
            for row in self.rows
        ]
        widths = [max((len(cell[column]) for cell in cells), default=0) for column in range(3)]
        return [
            "  ".join([*(text.ljust(w) for text, w in zip(cell, widths, strict=False)), cell[3]])
            for cell in cells
        ]

    def commands(self, file: str) -> list[str]:
        """The commands for a config file, that of PaddleX's mode first."""
        words = {
            "train": ["train", "--validate", "-c", file],
            "evaluate": ["test", "-c", file],
            "export": ["export", "-c", file],
            "predict": ["predict"],
            "check_dataset": ["check-data"],
        }
        order = sorted(words, key=lambda mode: mode != self.mode)
        return [shlex.join(["paddlevideo", *words[m], *self.flags.get(m, [])]) for m in order]


# --- keys with a rule of their own ----------------------------------------------------------------

Outcome = tuple[Literal["translated", "no effect", "not supported"], str]


def _model(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    return "translated", f"_base_: {result.data['_base_']}"


def _mode(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    verbs = {"check_dataset": "check-data", "evaluate": "test"}
    return "translated", f"the command paddlevideo {verbs.get(result.mode, result.mode)}"


def _dataset_dir(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    if not value:
        return "no effect", "not set: give the data with --data FOLDER"
    for split, name in (("train", "train"), ("valid", "val"), ("test", "val")):
        result.set(
            f"DATASET.{split}",
            {
                "format": "VideoDataset",
                "file_path": str(Path(value, f"{name}.txt")),
                "data_prefix": value,
            },
        )
    result.set("DATASET.class_names", str(Path(value, "label.txt")))
    result.flags["check_dataset"] = [value]
    return "translated", "DATASET.train, valid, test and class_names: its lists and label.txt"


def _device(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    kind, _, numbers = (value or "").partition(":")
    if not kind:
        return "no effect", "not set: a GPU if there is one"
    if kind == "cpu":
        result.set("use_gpu", False)
        return "translated", "use_gpu: false"
    if kind != "gpu":
        return "not supported", "only CPU and GPU are; the run uses a GPU if there is one"
    result.set("use_gpu", True)
    if "," not in numbers:
        choice = f"; CUDA_VISIBLE_DEVICES={numbers} selects it" if numbers.strip("0") else ""
        return "translated", f"use_gpu: true{choice}"
    launch = f"python -B -m paddle.distributed.launch --gpus={numbers} main.py --validate -c CONFIG"
    return "translated", f"use_gpu: true; for several GPUs: {launch}"


def _num_classes(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    backbone = result.data["MODEL"]["backbone"]
    key = "MODEL.backbone.class_num" if "class_num" in backbone else "MODEL.head.num_classes"
    result.set(key, value)
    if value is None:
        return "translated", f"{key}: null, the number in the data"
    return "translated", f"{key}: {value}"


def _learning_rate(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    if value is None:
        return "no effect", "not set: that of the shipped config"
    result.set("OPTIMIZER.learning_rate.cosine_base_lr", value)
    result.set("OPTIMIZER.learning_rate.warmup_start_lr", value / 2)
    return "translated", (
        f"OPTIMIZER.learning_rate.cosine_base_lr: {value:g}, and warmup_start_lr half of it "
        "(PaddleX keeps 0.005, which may be above the rate)"
    )


def _weights(mode: str, flag: str) -> Any:
    def rule(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
        output = Path(config.Global.output or "output")
        best = output / "best_model" / "best_model.pdparams"
        if value and Path(value) == best and not best.exists():
            # A training of PaddleX would write it; the training of this config has another name.
            value = str(output / f"{_name_of(result)}_best.pdparams")
        if not value:
            return "no effect", f"not set: {_without_weights(mode)}"
        if "://" in value:
            name = value.rpartition("/")[2]
            result.flags[mode] = [flag, name]
            return "translated", f"{flag} {name}, after the download: curl -LO {value}"
        result.flags[mode] = [flag, value]
        return "translated", f"{flag} {value}"

    return rule


def _without_weights(mode: str) -> str:
    if mode != "train":
        return "give the weights with the command"
    return "starts from random weights; -o MODEL.backbone.pretrained=FILE gives a backbone"


def _name_of(result: Translation) -> str:
    """model_name of the shipped config."""
    base = result.data["_base_"].removeprefix("configs/").removesuffix(".yaml")
    return yamltree.read(configs()[base], ()).data["model_name"]


def _resume(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    if not value:
        return "no effect", "not set; --resume continues a run of this package"
    return "not supported", (
        "a checkpoint of PaddleX has other states; start from its weights with -w FILE.pdparams"
    )


def _amp(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    if value in (None, "OFF"):
        return "no effect", "mixed precision is off"
    result.set("amp", True)
    result.set("amp_level", value)
    return "translated", f"amp: true, amp_level: {value}"


def _convert(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    if not value:
        return "no effect", "nothing is converted"
    return "not supported", "PaddleX has no conversion of videos either"


def _split(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    if not value:
        return "no effect", "the lists are used as they are"
    percent = config.CheckDataset.split.val_percent or 20
    flags = f"--resplit --valid_share {percent / 100:g}"
    return "not supported", (
        f"a training never splits; do it once: paddlevideo check-data "
        f"{config.Global.dataset_dir or 'FOLDER'} {flags}, and train with --data FOLDER"
    )


def _predict_flag(flag: str) -> Any:
    def rule(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
        if value is None:
            return "no effect", "not set"
        result.flags.setdefault("predict", []).extend([flag, str(value)])
        note = "; download it first" if "://" in str(value) else ""
        return "translated", f"predict {flag} {value}{note}"

    return rule


def _model_dir(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    output = Path(config.Global.output or "output")
    best = output / "best_model" / "inference"
    if value and Path(value) == best and not best.exists():
        value = str(output / "inference")
        result.flags["export"] = [*result.flags.get("export", []), "-o", value]
    return _predict_flag("--model")(result, config, value)


def _run_mode(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    if value not in RUN_MODES:
        return "not supported", "int8 needs `quantize --backend tensorrt` first; or use fp16"
    options = RUN_MODES[value].items()
    words = [word for name, option in options for word in (FLAGS[name], str(option).lower())]
    result.flags.setdefault("predict", []).extend(words)
    return "translated", f"predict {' '.join(words)}"


def _use_hpip(result: Translation, config: PaddleXConfig, value: Any) -> Outcome:
    return "no effect", "--backend auto selects the runtime" if value else "it is off"


SPECIAL: dict[str, Any] = {
    "Global.model": _model,
    "Global.mode": _mode,
    "Global.dataset_dir": _dataset_dir,
    "Global.device": _device,
    "CheckDataset.convert.enable": _convert,
    "CheckDataset.split.enable": _split,
    "Train.num_classes": _num_classes,
    "Train.learning_rate": _learning_rate,
    "Train.pretrain_weight_path": _weights("train", "-w"),
    "Train.resume_path": _resume,
    "Train.amp": _amp,
    "Evaluate.weight_path": _weights("evaluate", "-w"),
    "Export.weight_path": _weights("export", "-p"),
    "Predict.batch_size": _predict_flag("-b"),
    "Predict.model_dir": _model_dir,
    "Predict.input": _predict_flag("-i"),
    "Predict.kernel_option.run_mode": _run_mode,
    "Predict.use_hpip": _use_hpip,
}
