"""The fixed sections of a config file, as frozen dataclasses: every key with its type, default and meaning.

What varies (backbones, transforms, datasets, ...) is a `Component`: a name, looked up in the registry, and arguments
that were checked against the signature of what the name stands for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Annotated, Any, Literal

from paddlevideo.config.registry import Kind, lookup


class ConfigError(ValueError):
    """Mistakes in a config, all of them, a line each: place, key path, what came, what was expected."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class Component:
    """A checked reference to a registered class or function; `make` builds it, nested components first.

    Args:
        path: where it stands in the config, as `PIPELINE.train.transform.0.Scale`.
        where: file:line.
    """

    kind: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    where: str = ""

    def make(self, **more) -> Any:
        """Build it with the file's arguments and `more`, which win.

        Raises:
            ConfigError: the component refused its arguments; the message carries file:line.
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
    if is_dataclass(value) and not isinstance(value, type):  # a section of a component's own
        return replace(value, **{name: _made(part) for name, part in vars(value).items()})
    return value


@dataclass(frozen=True)
class AtLeast:
    """Marks a number that must not be below `value`."""

    value: float


Count = Annotated[int, AtLeast(1)]
CountOrZero = Annotated[int, AtLeast(0)]

FrameworkSpec = Annotated[Component, Kind("framework", key="framework")]
DatasetSpec = Annotated[
    Component, Kind("dataset", key="format", supplied=("file_path",))
]  # by DATASET.root
DecodeSpec = Annotated[Component, Kind("decode")]
SampleSpec = Annotated[Component, Kind("sample")]
TransformSpec = Annotated[Component, Kind("transform")]
OptimizerSpec = Annotated[Component, Kind("optimizer")]
AudioSpec = Annotated[Component, Kind("audio")]
MixSpec = Annotated[Component, Kind("mix")]
EmaSpec = Annotated[Component, Kind("ema")]
MetricSpec = Annotated[Component, Kind("metric", supplied=("num_classes",))]


@dataclass(frozen=True)
class Pipeline:
    """From a record to the model's inputs. `decode_sampler` is another name of `sample`; with it `decode` may be left out."""

    sample: SampleSpec | None = None  # which frames; a decoder of features needs none
    decode: DecodeSpec = field(
        default_factory=lambda: Component("decode", "VideoDecoder")
    )  # how they are read
    transform: list[TransformSpec] = field(default_factory=list)  # in order
    audio: AudioSpec | None = None  # the sound of the clips, for a model that takes it


@dataclass(frozen=True)
class Pipelines:
    """One pipeline per split; a split that has none cannot be run."""

    train: Pipeline | None = None
    valid: Pipeline | None = None
    test: Pipeline | None = None


@dataclass(frozen=True)
class Dataset:
    """Where the records come from and how they are batched. Batch sizes are clips per device."""

    batch_size: Count = 8
    valid_batch_size: Count | None = None  # None: as batch_size
    test_batch_size: Count = 1  # videos; their views are batched by `views_per_step`
    num_workers: CountOrZero = 0  # loader processes per device; 0 loads in the main process
    valid_num_workers: CountOrZero | None = None  # None: as num_workers
    test_num_workers: CountOrZero | None = None
    prefetch: Count = 2  # batches each worker holds ready
    views_per_step: Count | None = (
        None  # views of a test that go through the model at once; None: 10 on a GPU, 1 on a CPU
    )
    root: str | None = (
        None  # a folder that tools/check_data.py has looked at; with -o it replaces the lists of the file
    )
    class_names: str | None = (
        None  # file with one class name a line; derived from the training data where names are its labels
    )
    multi_label: bool = (
        False  # a video may have several classes, or none: sigmoid instead of softmax
    )
    sampling: Literal["shuffled", "class_balanced"] = (
        "shuffled"  # of an epoch; balanced draws each class equally often
    )
    train: DatasetSpec | None = None
    valid: DatasetSpec | None = None
    test: DatasetSpec | None = None


@dataclass(frozen=True)
class GradientAccumulation:
    """Several batches make one optimizer step, where a device cannot hold them at once."""

    global_batch_size: (
        Count  # clips per optimizer step over all devices; a multiple of devices x batch_size
    )


@dataclass(frozen=True)
class Finetune:
    """What of a model that has learnt already stays as it is, and what learns slower. Both go by stages (stem, stage1, ...,
    stage4 of a backbone) or beginnings of parameters' names. And what its classes are called, for keep_rows of a head."""

    freeze: list[str] = field(
        default_factory=list
    )  # neither these parameters nor the statistics of their norms move
    lr_mult: dict[str, float] = field(
        default_factory=dict
    )  # factor on the learning rate; the longest name that fits counts
    class_names: str | None = (
        None  # file of the class names of the weights given with -w, which may hold none
    )


@dataclass(frozen=True)
class EarlyStopping:
    """End a training that gets no better; it needs --validate."""

    patience: Count = 5  # validations in a row without a new best


@dataclass(frozen=True)
class Loss:
    """What is added to the loss of a model."""

    # Factors on the loss of a class's videos, in the order of the ids or by name; balanced: as rare as a class is.
    class_weights: Literal["balanced"] | list[float] | dict[str, float] | None = None


@dataclass(frozen=True)
class Multigrid:
    """Clip shapes that change between phases (long cycle) and steps (short cycle) of a training run; --multigrid uses it."""

    LONG_CYCLE: bool = False
    SHORT_CYCLE: bool = False
    default_batch_size: CountOrZero = (
        0  # clips per device; 0, here and below: what the other sections say
    )
    default_temporal_size: CountOrZero = 0  # frames of a clip
    default_crop_size: CountOrZero = 0  # pixels
    epoch_factor: float = 1.0  # the epochs of a multigrid run, in those of the plain one
    bn_base_size: Count = 8  # clips per device whose batch-norm statistics belong together
    long_cycle_sampling_rate: CountOrZero = (
        0  # the largest distance of a clip's frames; 0: as far as the plain clip spans
    )
    long_cycle_factors: list[dict[str, Any] | list[float]] = (
        field(  # shares of frames and crop, [t, s] or {value: [t, s]}
            default_factory=lambda: [[0.25, 0.7071], [0.5, 0.7071], [0.5, 1.0], [1.0, 1.0]]
        )
    )
    short_cycle_factors: list[float] = field(
        default_factory=lambda: [0.5, 0.7071]
    )  # shares of the crop
    EVAL_FREQ: Count = 3  # evaluations per clip shape
    follow_release: bool = (
        False  # where the Paddle release deviates from the method, do as the release
    )


@dataclass(frozen=True)
class PreciseBN:
    """Batch-norm statistics averaged over many batches, before an evaluation."""

    preciseBN_interval: Count = 1  # epochs
    num_iters_preciseBN: Count = 200  # batches


@dataclass(frozen=True)
class Inference:
    """What a deployed model assumes. The pipeline of an exported model is PIPELINE.test, so that predict equals test: the sizes
    here are only compared with it, and a difference is noted."""

    name: str | None = None
    num_seg: Count | None = None
    seg_len: Count | None = None
    short_size: Count | None = None
    target_size: Count | None = None
    num_frames: Count | None = None
    sampling_rate: Count | None = None
    alpha: Count | None = None
    top_k: Count = 1
    mean: list[float] | None = None
    std: list[float] | None = None


@dataclass(frozen=True)
class Origin:
    """Where a config came from: its files, overrides, the merged raw data, and keys that have no effect."""

    path: str = ""
    sources: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """A run. The sections in capitals may hold components; the other keys stand at the top of the file."""

    MODEL: FrameworkSpec
    PIPELINE: Pipelines
    DATASET: Dataset = field(default_factory=Dataset)
    OPTIMIZER: OptimizerSpec | None = None
    MIX: MixSpec | None = None
    EMA: EmaSpec | None = None
    LOSS: Loss = field(default_factory=Loss)
    FINETUNE: Finetune = field(default_factory=Finetune)
    EARLY_STOPPING: EarlyStopping | None = None
    METRIC: MetricSpec | None = None
    INFERENCE: Inference = field(default_factory=Inference)
    GRADIENT_ACCUMULATION: GradientAccumulation | None = None
    MULTIGRID: Multigrid | None = None
    PRECISEBN: PreciseBN | None = None
    model_name: str = "model"  # the prefix of checkpoint and export files
    epochs: Count = 1
    log_interval: Count = 10  # steps between log lines
    save_interval: Count = 1  # epochs between numbered checkpoints
    val_interval: Count = 1  # epochs between validations
    output_dir: str | None = None  # None: output/<model_name>
    resume_epoch: CountOrZero = (
        0  # continue after this epoch's checkpoint in output_dir; --resume is the easier way
    )
    seed: CountOrZero = 1234
    deterministic: bool = False  # ask the GPU libraries for reproducible kernels
    amp: bool = False  # mixed precision: float16 on a GPU, bfloat16 on a CPU
    amp_level: Literal["O1", "O2"] = "O1"
    sync_bn: bool = False  # batch-norm statistics over all ranks
    max_iters: Count | None = None  # stop every epoch after this many steps
    export: bool = False  # write the best model to inference/<model_name> when training ends
    use_gpu: bool | None = None  # None: a GPU where there is one
    onednn: bool = True  # convolutions on a CPU by oneDNN, which are faster than Paddle's own
    origin: Origin = field(default_factory=Origin)

    @property
    def folder(self) -> str:
        return self.output_dir or f"output/{self.model_name}"


# Other names of the keys of a section.
OTHER_NAMES = {Pipeline: {"decode_sampler": "sample"}}

# Keys of older files that have no effect here, and why.
IGNORED = {
    "log_level": "the log has one level",
    "use_npu": "only CPU and GPU are supported",
    "use_xpu": "only CPU and GPU are supported",
    "to_static": "training runs in dynamic mode, on a CPU with oneDNN's convolutions; export writes the static program",
    "DALI_LOADER": "frames are decoded on the CPU",
    "DATASET.shuffle_valid": "validation counts every sample once, in any order",
}
