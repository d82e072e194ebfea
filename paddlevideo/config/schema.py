"""The sections of a config file as frozen dataclasses: each key with its type, default and meaning.

Parts that a user chooses by name (backbones, transforms, datasets, ...) are `Component`s. Their
options are not listed here: the signature of the class or function is the schema, and the checker
compares the arguments in the config with it (see `registry.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Annotated, Any, Literal

from paddlevideo.config.registry import Kind, lookup


class ConfigError(ValueError):
    """All mistakes of a config, one line each: location, key, value, what was expected.

    Args:
        problems: the lines.
    """

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class Component:
    """A registered class or function with checked arguments; `make` builds it.

    Args:
        kind: kind of component, as "transform".
        name: registered name.
        args: arguments from the config; values may be components.
        path: its key in the config, as `PIPELINE.train.transform.0.Scale`.
        where: its file:line.
    """

    kind: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    where: str = ""

    def make(self, **more) -> Any:
        """Build the component, the components among its arguments first.

        Args:
            more: further arguments; they replace arguments of the same name.

        Raises:
            ConfigError: the component rejects its arguments; the message has the file:line.
        """
        args = {key: _made(value) for key, value in {**self.args, **more}.items()}
        try:
            return lookup(self.kind, self.name).make(**args)
        except ConfigError:
            raise
        except (ValueError, TypeError) as error:
            raise ConfigError([f"{self.where}: {self.path}: {error}"]) from error

    def with_args(self, **args) -> "Component":
        return replace(self, args={**self.args, **args})


def _made(value):
    if isinstance(value, Component):
        return value.make()
    if isinstance(value, list):
        return [_made(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):  # a section inside a component
        return replace(value, **{name: _made(part) for name, part in vars(value).items()})
    return value


@dataclass(frozen=True)
class AtLeast:
    """Marks a number with its smallest allowed value."""

    value: float


Count = Annotated[int, AtLeast(1)]
CountOrZero = Annotated[int, AtLeast(0)]

FrameworkSpec = Annotated[Component, Kind("framework", key="framework")]
# DATASET.root supplies a file_path that is left out.
DatasetSpec = Annotated[Component, Kind("dataset", key="format", supplied=("file_path",))]
DecodeSpec = Annotated[Component, Kind("decode")]
SampleSpec = Annotated[Component, Kind("sample")]
TransformSpec = Annotated[Component, Kind("transform")]
OptimizerSpec = Annotated[Component, Kind("optimizer")]
AudioSpec = Annotated[Component, Kind("audio")]
MixSpec = Annotated[Component, Kind("mix")]
EmaSpec = Annotated[Component, Kind("ema")]
MetricSpec = Annotated[Component, Kind("metric", supplied=("num_classes",))]


@dataclass(frozen=True)
class Cache:
    """Keep the frames of each video on the disk, after the first transform, for the next epochs."""

    # Largest size of the folder (10**9 bytes). Videos that find no room are decoded each time.
    gigabytes: Annotated[float, AtLeast(0)] = 4.0
    # None: `frames` in $PADDLEVIDEO_HOME, or in ~/.cache/paddlevideo.
    folder: str | None = None


@dataclass(frozen=True)
class Pipeline:
    """Steps from a record to the inputs of the model."""

    # Which frames to use; decoders of frame features need none. `decode_sampler` is the same key.
    sample: SampleSpec | None = None
    # How to read the frames.
    decode: DecodeSpec = field(default_factory=lambda: Component("decode", "VideoDecoder"))
    # Transforms of the frames, in order.
    transform: list[TransformSpec] = field(default_factory=list)
    # Audio of the sampled clip, for audio-visual models.
    audio: AudioSpec | None = None
    # Decode each video once; for train and valid, and a first transform that resizes.
    cache: Cache | None = None


@dataclass(frozen=True)
class Pipelines:
    """A pipeline for each split; a split without one cannot be used."""

    train: Pipeline | None = None
    valid: Pipeline | None = None
    test: Pipeline | None = None


@dataclass(frozen=True)
class Dataset:
    """The records of each split, and how they are batched and loaded."""

    batch_size: Count = 8  # clips per device in training
    valid_batch_size: Count | None = None  # clips per device in validation; None: batch_size
    test_batch_size: Count = 1  # videos per device in a test
    num_workers: CountOrZero = 0  # loader processes per device; 0 loads in the main process
    valid_num_workers: CountOrZero | None = None  # None: num_workers
    test_num_workers: CountOrZero | None = None  # None: num_workers
    prefetch: Count = 2  # batches that each worker prepares ahead
    # Views of a test video in one forward pass; None: 10 on a GPU, 1 on a CPU.
    views_per_step: Count | None = None
    # Folder on this machine that keeps the parts of remote videos that were read, for later epochs
    # and runs; None keeps none. Several processes may share it.
    cache_dir: str | None = None
    cache_gb: float = 50.0  # limit of that folder (10 ** 9 bytes); the oldest parts are removed
    # Folder of data, as tools/check_data.py checks it, for the splits without file_path. In an
    # override, or on top of a `_base_`, it replaces the lists and class names of the file below.
    root: str | None = None
    # File with one class name per line; None: the class names in the training data.
    class_names: str | None = None
    # The names in that file are new names of a checkpoint's classes, in the order of its outputs.
    rename_classes: bool = False
    # Videos may have any number of classes: sigmoid scores instead of softmax.
    multi_label: bool = False
    # How an epoch draws videos; class_balanced draws each class equally often.
    sampling: Literal["shuffled", "class_balanced"] = "shuffled"
    # Clips that an epoch has at least; a shorter list is drawn several times, as a whole.
    min_epoch_clips: Count | None = None
    train: DatasetSpec | None = None
    valid: DatasetSpec | None = None
    test: DatasetSpec | None = None


@dataclass(frozen=True)
class GradientAccumulation:
    """Add up the gradients of several batches for one optimizer step, to save memory."""

    # Clips per optimizer step over all devices; a multiple of devices x batch_size.
    global_batch_size: Count


@dataclass(frozen=True)
class Finetune:
    """How a pretrained model is fine-tuned.

    `freeze` and `lr_mult` select parameters by stage (stem, stage1, ..., stage4 of a backbone) or
    by the beginning of their names.
    """

    # Parameters that do not change; the statistics of their norm layers do not change either.
    freeze: list[str] = field(default_factory=list)
    # Factors on the learning rate; the longest matching name wins.
    lr_mult: dict[str, float] = field(default_factory=dict)
    # Class names of the weights given with -w, one per line, for `keep_rows` of a head.
    # Weights that hold their class names do not need it.
    class_names: str | None = None


@dataclass(frozen=True)
class Frozen:
    """Before the first epoch, fit the classifier to features of the network as it is.

    The features of all training clips are computed once. A logistic regression is fitted to them,
    its strength chosen by cross-validation, and training starts from it.
    """

    folds: Annotated[int, AtLeast(2)] = 5  # parts of the clips; each is predicted by the others
    # Clips per video: that of PIPELINE.valid, and then random ones of PIPELINE.train.
    views: Count = 1
    # Strengths of the L2 penalty to try, on standardized features.
    strengths: list[float] = field(
        default_factory=lambda: [10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001]
    )


@dataclass(frozen=True)
class EarlyStopping:
    """Stop a training run that no longer improves; requires --validate."""

    patience: Count = 5  # validations in a row without a new best


@dataclass(frozen=True)
class Loss:
    """Options of the loss of any model."""

    # Factor on the loss of the videos of each class: a list in the order of the class ids, a map
    # of class names, or "balanced" for factors inversely proportional to class frequency.
    class_weights: Literal["balanced"] | list[float] | dict[str, float] | None = None


@dataclass(frozen=True)
class Multigrid:
    """Clip shapes that change during training, for --multigrid.

    The long cycle changes them between phases of the run, the short cycle between steps.
    0 for a size means the value of the other sections of the config.
    """

    LONG_CYCLE: bool = False
    SHORT_CYCLE: bool = False
    default_batch_size: CountOrZero = 0  # clips per device
    default_temporal_size: CountOrZero = 0  # frames per clip
    default_crop_size: CountOrZero = 0  # pixels
    epoch_factor: float = 1.0  # length of the multigrid run relative to the plain run, in epochs
    bn_base_size: Count = 8  # clips per device that share batch-norm statistics
    # Largest distance between the frames of a clip; 0: clips span at most as long as plain clips.
    long_cycle_sampling_rate: CountOrZero = 0
    # Fractions of the frames and of the crop size in each phase: [t, s] or {value: [t, s]}.
    long_cycle_factors: list[dict[str, Any] | list[float]] = field(
        default_factory=lambda: [[0.25, 0.7071], [0.5, 0.7071], [0.5, 1.0], [1.0, 1.0]]
    )
    # Fractions of the crop size.
    short_cycle_factors: list[float] = field(default_factory=lambda: [0.5, 0.7071])
    EVAL_FREQ: Count = 3  # validations per clip shape
    follow_release: bool = False  # follow PaddleVideo's code where it differs from the paper


@dataclass(frozen=True)
class PreciseBN:
    """Batch-norm statistics averaged over many batches before a validation."""

    preciseBN_interval: Count = 1  # epochs between the computations
    num_iters_preciseBN: Count = 200  # batches


@dataclass(frozen=True)
class Inference:
    """Settings of a deployed model.

    An exported model uses PIPELINE.test, so that predictions equal the test. Only `top_k` has an
    effect. The other keys exist in PaddleVideo's configs; a value that differs from PIPELINE.test
    is noted.
    """

    name: str | None = None
    num_seg: Count | None = None
    seg_len: Count | None = None
    short_size: Count | None = None
    target_size: Count | None = None
    num_frames: Count | None = None
    sampling_rate: Count | None = None
    alpha: Count | None = None
    top_k: Count = 1  # classes per prediction
    mean: list[float] | None = None
    std: list[float] | None = None


@dataclass(frozen=True)
class Origin:
    """Where a config came from.

    Args:
        path: the config file.
        sources: all files that were read, bases first.
        overrides: the `-o` texts.
        data: the merged plain data.
        notes: keys that have no effect, one line each.
    """

    path: str = ""
    sources: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """A run: the sections, and the keys at the top level of the file."""

    MODEL: FrameworkSpec
    PIPELINE: Pipelines
    DATASET: Dataset = field(default_factory=Dataset)
    OPTIMIZER: OptimizerSpec | None = None  # required for training
    MIX: MixSpec | None = None  # mixing of clips in training, as mixup
    EMA: EmaSpec | None = None  # moving average of the weights, which is validated and saved
    LOSS: Loss = field(default_factory=Loss)
    FINETUNE: Finetune = field(default_factory=Finetune)
    FROZEN: Frozen | None = None  # fit the classifier to frozen features first
    EARLY_STOPPING: EarlyStopping | None = None
    METRIC: MetricSpec | None = None  # None: the metric for the labels of the model
    INFERENCE: Inference = field(default_factory=Inference)
    GRADIENT_ACCUMULATION: GradientAccumulation | None = None
    MULTIGRID: Multigrid | None = None
    PRECISEBN: PreciseBN | None = None
    model_name: str = "model"  # prefix of checkpoint and export files
    epochs: CountOrZero = 1  # 0 only with FROZEN
    log_interval: Count = 10  # steps between log lines
    save_interval: Count = 1  # epochs between numbered checkpoints
    val_interval: Count = 1  # epochs between validations
    output_dir: str | None = None  # None: output/<model_name>
    # Continue after the checkpoint of this epoch in output_dir; --resume is easier.
    resume_epoch: CountOrZero = 0
    seed: CountOrZero = 1234  # of all random numbers
    deterministic: bool = False  # use reproducible GPU kernels
    amp: bool = False  # mixed precision: float16 on a GPU, bfloat16 on a CPU
    amp_level: Literal["O1", "O2"] = "O1"  # O2: float16 weights too, on a GPU
    sync_bn: bool = False  # batch-norm statistics over all ranks
    max_iters: Count | None = None  # end each epoch after this many steps
    # Minutes without a step after which a training hangs: the stacks of all ranks are written, and
    # it ends with an error. 0: no limit.
    hang_minutes: Annotated[float, AtLeast(0)] = 30.0
    export: bool = False  # export the best model to inference/ in the output folder
    use_gpu: bool | None = None  # None: a GPU if there is one
    onednn: bool = True  # oneDNN convolutions on a CPU, which are faster than Paddle's own
    origin: Origin = field(default_factory=Origin)

    @property
    def folder(self) -> str:
        return self.output_dir or f"output/{self.model_name}"


# Second names of keys, by section.
OTHER_NAMES = {Pipeline: {"decode_sampler": "sample"}}

# Keys of PaddleVideo's configs that have no effect here, and the reason for each.
IGNORED = {
    "log_level": "the log has one level",
    "use_npu": "only CPU and GPU are supported",
    "use_xpu": "only CPU and GPU are supported",
    "to_static": "training runs in dynamic mode; export writes the static program",
    "DALI_LOADER": "frames are decoded on the CPU",
    # PaddleX writes these two into the configs of PaddleVideo that it trains with.
    "Global": "flags set these: -w for pretrained_model, --resume for checkpoints",
    "Infer": "an exported model uses PIPELINE.test",
    "DATASET.shuffle_valid": "validation uses each sample once, so the order does not matter",
}
