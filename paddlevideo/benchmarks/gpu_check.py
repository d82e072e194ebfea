"""Everything that this package does on a GPU, once: what works, what differs, how fast it is.

Each row is a command in a process of its own, so a library that crashes costs one row. Training and
export run the demo of PP-TSN; each runtime runs the golden samples of its export.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from paddlevideo import dist, log
from paddlevideo.benchmarks.child_commands import Done, Run, run_command
from paddlevideo.benchmarks.gpu_results import Row, summary, write_results
from paddlevideo.benchmarks.gpu_runtime import MARK, Job, write_job
from paddlevideo.report.doctor import examine
from paddlevideo.runtimes.choose import available_backends
from paddlevideo.runtimes.onnx_runtime import CUDA, TENSORRT

CONFIG = "demo/pptsn"
LAST_LINES = 12  # of a failed command that its row keeps
# The largest relative difference of a loss from that of the CPU.
FIRST_LOSS = {"fp32": 1e-3, "fp16": 2e-2}
EPOCH_LOSS = {"fp32": 0.05, "fp16": 0.1, "all": 0.15}
# The largest relative difference of logits from the model's on a CPU.
LOGITS = {"fp32": 1e-4, "fp16": 3e-2, "int8": 0.2}
SCORES = {"fp32": 1e-3, "fp16": 3e-2}  # the same of a probability
# (kind, suffix of the program or "", precision)
RUNTIMES = (
    *(("eager", "", precision) for precision in ("fp32", "fp16")),
    *(("paddle", suffix, p) for suffix in (".pdmodel", ".json") for p in ("fp32", "fp16")),
    *(("tensorrt", suffix, p) for suffix in (".pdmodel", ".json") for p in ("fp32", "fp16")),
    ("tensorrt", ".pdmodel", "int8"),
    *(("onnxruntime", ".onnx", precision) for precision in ("fp32", "fp16")),
)
# (backend, precision) of the command that users run
PREDICTIONS = (
    ("auto", "fp32"),
    *(("paddle", precision) for precision in ("fp32", "fp16")),
    *(("tensorrt", precision) for precision in ("fp32", "fp16")),
    *(("onnxruntime", precision) for precision in ("fp32", "fp16")),
)
# A training script for Paddle's launcher, which takes no module.
SCRIPT = "import sys\n\nfrom paddlevideo.cli import main\n\nsys.exit(main(sys.argv[1:]))\n"


@dataclass
class Check:
    """The checks of one machine.

    Args:
        folder: where everything is written.
        num_gpus: how many GPUs there are.
        run: (command, variables to set) -> how it ended.
        config: of the model.
        data: of the demo set.
        epochs, clips: how long and on how many clips per class each training runs.
    """

    folder: Path
    num_gpus: int
    run: Run
    config: str = CONFIG
    epochs: int = 2
    clips: int = 16
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    predictions: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """Of the training on the CPU, with which everything else starts."""
        return str(self.folder / "start/ppTSN_epoch_00001.pdparams")

    @property
    def exported(self) -> Path:
        return self.folder / "inference"


def check(checks: Check) -> Iterator[Row]:
    """Do all checks, one after the other; a row that fails does not stop the next."""
    for name, work in steps(checks):
        log.show(f"{name} ...")
        begin = time.perf_counter()
        try:
            row = work()
        except Exception as error:  # whatever happens is the result of the row
            row = Row(name, "fail", reason=f"{type(error).__name__}: {error}")
        yield replace(row, name=name, seconds=round(time.perf_counter() - begin, 1))


def steps(checks: Check) -> Iterator[tuple[str, Callable[[], Row]]]:
    """(name, work) of each row."""
    yield "demo data", lambda: made(checks)
    yield "start weights, CPU", lambda: trained(checks, "start", ["use_gpu=False", "epochs=1"])
    yield "train on the CPU", lambda: compared(checks, "cpu", ["use_gpu=False"], "fp32")
    yield "train on 1 GPU, fp32", lambda: compared(checks, "fp32", ["use_gpu=True"], "fp32")
    amp = ["use_gpu=True", "amp=True"]
    yield "train on 1 GPU, AMP fp16", lambda: compared(checks, "amp", amp, "fp16")
    yield f"train on all GPUs ({checks.num_gpus})", lambda: on_all_gpus(checks)
    yield "export", lambda: exported(checks)
    yield "CPU, paddle .pdmodel fp32", lambda: measured(checks, "paddle", ".pdmodel", "fp32", "cpu")
    yield "quantize for TensorRT", lambda: quantized(checks)
    for kind, suffix, precision in RUNTIMES:
        name = " ".join(filter(None, ("GPU,", kind, suffix, precision)))

        def work(kind=kind, suffix=suffix, precision=precision) -> Row:
            return measured(checks, kind, suffix, precision, "gpu:0")

        yield name, work
    yield "predict videos, CPU", lambda: predicted(checks, "cpu", "auto", "fp32")
    for backend, precision in PREDICTIONS:

        def predict(backend=backend, precision=precision) -> Row:
            return predicted(checks, "gpu", backend, precision)

        yield f"predict videos, GPU, {backend} {precision}", predict


# --- rows ---------------------------------------------------------------------------------------


def made(checks: Check) -> Row:
    """The demo set."""
    flags = ["--out", str(checks.folder / "demo"), "--clips", str(checks.clips)]
    done = checks.run(verb("data make-demo", flags), {})
    return ended(done) or Row("", "pass")


def trained(checks: Check, name: str, options: Sequence[str]) -> Row:
    """A training in `<folder>/<name>`; its losses are kept."""
    done = checks.run(verb("train", train_flags(checks, name, options)), exact())
    if failed := ended(done):
        return failed
    checks.numbers[name] = losses(checks.folder / name)
    numbers = checks.numbers[name]
    return Row("", "pass", ", ".join(f"{key} {value:.5g}" for key, value in numbers.items()))


def compared(checks: Check, name: str, options: Sequence[str], precision: str) -> Row:
    """A training that starts with the weights of the CPU, and the numbers of the one on the CPU."""
    row = trained(checks, name, [f"epochs={checks.epochs}", *options])
    limits = {"first loss": FIRST_LOSS[precision], "last epoch's loss": EPOCH_LOSS[precision]}
    return with_differences(checks, row, name, limits)


def on_all_gpus(checks: Check) -> Row:
    """The same with a part of each batch on every GPU, and batch norms over all of them."""
    if checks.num_gpus < 2:
        return Row("", "skipped", reason="this machine has one GPU")
    name, script = "all", checks.folder / "train_script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    share = max(1, 8 // checks.num_gpus)
    options = [f"epochs={checks.epochs}", f"DATASET.batch_size={share}", "sync_bn=True"]
    gpus = ",".join(map(str, range(checks.num_gpus)))
    launcher = [sys.executable, "-m", "paddle.distributed.launch", f"--gpus={gpus}"]
    launcher += [f"--log_dir={checks.folder / 'launcher'}", str(script), "train"]
    done = checks.run([*launcher, *train_flags(checks, name, options)], exact())
    if failed := ended(done):
        return failed
    checks.numbers[name] = losses(checks.folder / name)
    return with_differences(checks, Row("", "pass"), name, {"last epoch's loss": EPOCH_LOSS["all"]})


def with_differences(checks: Check, row: Row, name: str, limits: Mapping[str, float]) -> Row:
    """The row with the differences from the training on the CPU; fail where one is too large."""
    if row.status != "pass" or name == "cpu":
        return row
    if "cpu" not in checks.numbers:
        return replace(row, status="fail", reason="there are no numbers of a CPU to compare with")
    found, expected = checks.numbers[name], checks.numbers["cpu"]
    texts, wrong = [], []
    for key, limit in limits.items():
        difference = abs(found[key] - expected[key]) / max(abs(expected[key]), 1e-9)
        texts.append(f"{key} {found[key]:.5g}, CPU {expected[key]:.5g}")
        if not difference <= limit:  # also if it is NaN
            wrong.append(f"{key} differs by {difference:.2g}, at most {limit:g} was expected")
    speed = expected["seconds a step"] / found["seconds a step"]
    status = "fail" if wrong else "pass"
    return replace(
        row, status=status, result="; ".join(texts), reason="; ".join(wrong), speed=speed
    )


def exported(checks: Check) -> Row:
    """The programs of the start weights in every format."""
    flags = ["-c", checks.config, "-p", checks.weights, "-o", str(checks.exported)]
    done = checks.run(verb("export", [*flags, "--format", "all", "--overwrite"]), exact())
    if failed := ended(done):
        return failed
    names = sorted(path.name for path in checks.exported.glob("*.*"))
    return Row("", "pass", ", ".join(names))


def quantized(checks: Check) -> Row:
    """The ranges of activations for int8, and the accuracy before and after."""
    if missing := available_backends()["tensorrt"]:
        return Row("", "skipped", reason=missing)
    if not list(checks.exported.glob("*.pdmodel")):
        return Row("", "skipped", reason="the export has no .pdmodel")
    videos = str(checks.folder / "demo/appearance/train.list")
    flags = ["-m", str(checks.exported), "--videos", videos, "--backend", "tensorrt"]
    done = checks.run(verb("quantize", [*flags, "--num", "32", "--overwrite"]), {})
    if failed := ended(done):
        return failed
    lines = [line.strip() for line in done.output.splitlines() if line.startswith("  ")]
    return Row("", "pass", "; ".join(" ".join(line.split()) for line in lines))


def measured(checks: Check, kind: str, suffix: str, precision: str, device: str) -> Row:
    """A runtime in a process of its own."""
    missing = available_backends()[kind] or missing_provider(kind, precision)
    if missing:
        return Row("", "skipped", reason=missing)
    if suffix and not list(checks.exported.glob(f"*{suffix}")):
        return Row("", "skipped", reason=f"the export has no {suffix}")
    path = checks.folder / "job.json"
    folder = str(checks.exported)
    write_job(Job(folder, kind, suffix, device, precision, checks.config, checks.weights), path)
    command = [sys.executable, "-m", "paddlevideo.benchmarks.gpu_runtime", str(path)]
    # A GPU of Ampere or later rounds the factors of float32 products to TF32 by default.
    done = checks.run(command, exact() if precision == "fp32" else {})
    line = next((x for x in done.output.splitlines() if x.startswith(MARK)), None)
    if done.code or line is None:
        return ended(done) or Row("", "fail", reason="it printed no result")
    found = json.loads(line.removeprefix(MARK))
    if device == "cpu":
        checks.numbers["one view"] = {"seconds": found["seconds"]}
    base = checks.numbers.get("one view")
    # int8 may change the best class of noise, which the golden samples are.
    same = found["same_top1"] or precision == "int8"
    wrong = found["difference"] > LOGITS[precision] or not same
    best = "" if found["same_top1"] else ", another best class"
    return Row(
        "",
        "fail" if wrong else "pass",
        f"{found['backend']}: {1000 * found['seconds']:.2f} ms a view, "
        f"logits differ by {found['difference']:.1e}{best}",
        f"logits may differ by {LOGITS[precision]:g} of the largest" if wrong else "",
        speed=base["seconds"] / found["seconds"] if base else None,
    )


def missing_provider(kind: str, precision: str) -> str:
    """What the installed build of ONNX Runtime lacks for a GPU; "" for another runtime."""
    if kind != "onnxruntime":
        return ""
    import onnxruntime  # an optional extra

    needed = TENSORRT if precision == "fp16" else CUDA
    if needed in onnxruntime.get_available_providers():
        return ""
    return f"this build of onnxruntime has no {needed}; pip install onnxruntime-gpu"


def predicted(checks: Check, device: str, backend: str, precision: str) -> Row:
    """The command that users run, on the videos of the test list; on a GPU as on the CPU."""
    missing = "" if backend == "auto" else available_backends()[backend]
    if missing := missing or missing_provider(backend, precision):
        return Row("", "skipped", reason=missing)
    out = checks.folder / f"predictions_{device}_{backend}_{precision}.json"
    videos = str(checks.folder / "demo/appearance/test")
    flags = ["--model", str(checks.exported), "--input_file", videos, "--save_json", str(out)]
    flags += ["--overwrite", "--use_gpu", str(device == "gpu")]
    flags += ["--backend", backend, "--precision", precision]
    done = checks.run(verb("predict", flags), exact() if precision == "fp32" else {})
    if failed := ended(done):
        return failed
    rows = json.loads(out.read_text(encoding="utf-8"))
    found = {row["input_path"]: (row["class_ids"][0], row["scores"][0]) for row in rows}
    if device == "cpu":
        checks.predictions = found
        return Row("", "pass" if found else "fail", f"{len(found)} videos")
    on_cpu = checks.predictions
    if not found or found.keys() != on_cpu.keys():
        return Row("", "fail", reason=f"{len(found)} videos on a GPU, {len(on_cpu)} on the CPU")
    others = sum(found[name][0] != on_cpu[name][0] for name in on_cpu)
    most = max(abs(found[name][1] - on_cpu[name][1]) for name in on_cpu)
    limit = SCORES[precision]
    wrong = most > limit or (others > 0 and precision == "fp32")
    return Row(
        "",
        "fail" if wrong else "pass",
        f"{len(found)} videos; {others} have another best class, its score differs by {most:.1e}",
        f"the class must be the same in fp32, and the score may differ by {limit:g}"
        if wrong
        else "",
    )


# --- commands -----------------------------------------------------------------------------------


def verb(name: str, flags: Sequence[str]) -> list[str]:
    """The command of a verb."""
    return [sys.executable, "-m", "paddlevideo", *name.split(), *flags]


def train_flags(checks: Check, name: str, options: Sequence[str]) -> list[str]:
    """Flags of a training that no random number of a device changes."""
    data = checks.folder / "demo/appearance"
    files = {"train": "train", "valid": "val", "test": "test"}
    settings = [
        *(f"DATASET.{split}.file_path={data / file}" for split, file in files.items()),
        f"output_dir={checks.folder / name}",
        *("MODEL.head.drop_ratio=0", "log_interval=1", "val_interval=1", "save_interval=1"),
        *options,
    ]
    start = [] if name == "start" else ["-w", checks.weights]
    overrides = [part for setting in settings for part in ("-o", setting)]
    return ["--validate", "-c", checks.config, "--overwrite", *start, *overrides]


def exact() -> dict[str, str]:
    """Variables for float32 products that are not rounded to TF32."""
    return {"NVIDIA_TF32_OVERRIDE": "0"}


def losses(folder: Path) -> dict[str, float]:
    """The losses and the time of a step of a training."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    steps = [row for row in rows if row["split"] == "train"]
    epochs = [row["loss"] for row in rows if row["split"] == "epoch"]
    return {
        "first loss": steps[0]["loss"],
        "last epoch's loss": epochs[-1],
        "seconds a step": steps[-1]["batch_cost"],
    }


def ended(done: Done) -> Row | None:
    """A failed row for a command that failed; None for one that did its work."""
    if done.code == 0:
        return None
    how = f"exit code {done.code}" if done.code > 0 else f"ended by signal {-done.code}"
    last = [line for line in done.output.splitlines() if line.strip()][-LAST_LINES:]
    return Row("", "fail", reason="\n".join([how, *last]))


def run_check(folder: Path, epochs: int, clips: int) -> int:
    """Check this machine; returns 0 where no row failed, 1 where one did, 2 without a GPU."""
    number, lack = dist.count_gpus()
    if not number:
        print(f"error: gpu-check needs a GPU: {lack}", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    facts = examine()
    for row in check(Check(folder.resolve(), number, run_command, epochs=epochs, clips=clips)):
        rows.append(row)
        write_results(folder, rows, facts)  # after each row: the next may end this process, too
        last = row.reason.splitlines()[-1:] if row.status != "pass" else []
        log.show(" ".join([f"  {row.status}", row.result, *last]))
    log.show(summary(rows), f"results: {folder}/gpu_check.html, gpu_check.json")
    return 1 if any(row.status == "fail" for row in rows) else 0
