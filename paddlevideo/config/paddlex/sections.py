"""The sections of PaddleX's training configs for video classification.

Like the sections of a config of this package (schema.py), they are the schema: a wrong key or value
is reported with its line and the nearest name.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from paddlevideo.config.schema import AtLeast, Count, CountOrZero

# PaddleX's models for videos -> the shipped config that trains them.
MODELS = {
    "PP-TSM-R50_8frames_uniform": "pptsm_k400_videos_uniform",
    "PP-TSMv2-LCNetV2_8frames_uniform": "pptsm_lcnet_k400_8frames_uniform",
    "PP-TSMv2-LCNetV2_16frames_uniform": "pptsm_lcnet_k400_16frames_uniform",
}
# PaddleX's run modes -> options of a `Predictor`, and the flags that set them.
RUN_MODES: dict[str, dict[str, Any]] = {
    "paddle": {"backend": "paddle"},
    "paddle_fp16": {"backend": "paddle", "precision": "fp16"},
    "mkldnn": {"backend": "paddle", "onednn": True},
    "mkldnn_bf16": {"backend": "paddle", "onednn": True, "precision": "fp16"},
    "trt_fp32": {"backend": "tensorrt"},
    "trt_fp16": {"backend": "tensorrt", "precision": "fp16"},
}
FLAGS = {"backend": "--backend", "precision": "--precision", "onednn": "--enable_mkldnn"}

Rate = Annotated[float, AtLeast(0)]


@dataclass(frozen=True)
class GlobalSection:
    """The model, what to do with it, and where data and results are."""

    model: str
    mode: Literal["check_dataset", "train", "evaluate", "export", "predict"] | None = None
    dataset_dir: str | None = None
    device: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class Convert:
    """A conversion of other data sets, which PaddleX does not have for videos."""

    enable: bool = False
    src_dataset_type: str | None = None


@dataclass(frozen=True)
class Split:
    """New splits of the data."""

    enable: bool = False
    train_percent: float | None = None
    val_percent: float | None = None


@dataclass(frozen=True)
class CheckDatasetSection:
    """The check of the data, which may split it."""

    convert: Convert = field(default_factory=Convert)
    split: Split = field(default_factory=Split)


@dataclass(frozen=True)
class TrainSection:
    """The training; `epochs_iters` and `warmup_steps` count epochs."""

    num_classes: Count | None = None
    epochs_iters: Count | None = None
    batch_size: Count | None = None
    learning_rate: Rate | None = None
    pretrain_weight_path: str | None = None
    warmup_steps: CountOrZero | None = None
    resume_path: str | None = None
    log_interval: Count | None = None
    eval_interval: Count | None = None
    save_interval: Count | None = None
    amp: Literal["O1", "O2", "OFF"] | None = None
    dy2st: bool | None = None


@dataclass(frozen=True)
class EvaluateSection:
    """The test of a weight file."""

    weight_path: str | None = None
    log_interval: Count | None = None
    batch_size: Count | None = None


@dataclass(frozen=True)
class ExportSection:
    """The weight file to export."""

    weight_path: str | None = None


@dataclass(frozen=True)
class KernelOption:
    """How PaddleX runs an exported model."""

    run_mode: Literal[
        "paddle", "paddle_fp16", "trt_fp32", "trt_fp16", "trt_int8", "mkldnn", "mkldnn_bf16"
    ] = "paddle"


@dataclass(frozen=True)
class PredictSection:
    """The prediction with an exported folder."""

    batch_size: Count | None = None
    model_dir: str | None = None
    input: str | None = None
    kernel_option: KernelOption | None = None
    use_hpip: bool | None = None
    hpi_config: Any = None
    engine: Any = None
    engine_config: Any = None


@dataclass(frozen=True)
class PaddleXConfig:
    """A config file."""

    Global: GlobalSection
    CheckDataset: CheckDatasetSection = field(default_factory=CheckDatasetSection)
    Train: TrainSection = field(default_factory=TrainSection)
    Evaluate: EvaluateSection = field(default_factory=EvaluateSection)
    Export: ExportSection = field(default_factory=ExportSection)
    Predict: PredictSection = field(default_factory=PredictSection)
