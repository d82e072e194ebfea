"""Training on a double of a GPU build: the calls, and that the host waits only when it reads."""

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlevideo import dist
from paddlevideo.api import train
from paddlevideo.config.schema import ConfigError
from paddlevideo.data.clip_transforms import PackOutput
from paddlevideo.data.transforms import Normalization
from paddlevideo.engine import amp
from paddlevideo.engine import train as training
from paddlevideo.engine.build import build_model
from paddlevideo.engine.classes import Classes
from paddlevideo.engine.not_finite import NotFinite
from paddlevideo.engine.run import check_sync_bn, trainable
from paddlevideo.engine.step_numbers import WaitingNumbers
from paddlevideo.engine.upload import Upload, one_behind
from paddlevideo.models.layers import SubBatchNorm3D
from paddlevideo.models.recognizer import Recognizer2D
from paddlevideo.models.temporal_shift import shift_frames
from paddlevideo.models.vlad import UnbiasedNorm
from paddlevideo.paddle_internals import is_batch_norm
from tests.gpu_build import GpuBuild


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.delenv("FLAGS_selected_gpus", raising=False)
    return GpuBuild(monkeypatch)


def rows_of(cfg) -> list[dict]:
    lines = (Path(cfg.folder) / "metrics.jsonl").read_text().splitlines()
    clocks = {"time", "seconds", "batch_cost", "reader_cost", "gpu_memory_mb", "gpu_reserved_mb"}
    return [{k: v for k, v in json.loads(line).items() if k not in clocks} for line in lines]


def test_a_gpu_run_has_the_numbers_of_a_cpu_run(small, monkeypatch, tmp_path):
    """The double computes on the CPU; only the path of batches and numbers is that of a GPU."""
    options = ("epochs=1", "log_interval=2", "onednn=False")
    on_cpu = small(*options, f"output_dir={tmp_path}/cpu")
    train(on_cpu)
    on_gpu = small(*options, f"output_dir={tmp_path}/gpu")
    with monkeypatch.context() as patch:
        build = GpuBuild(patch)
        train(on_gpu)
        assert build.device == "gpu:0"
        pinned, copies = build.calls("pin"), build.calls("cuda")
    assert rows_of(on_gpu) == rows_of(on_cpu)
    for name in ("ppTSN_epoch_00001.pdparams", "ppTSN_best.pdparams"):
        assert (Path(on_gpu.folder) / name).read_bytes() == (
            Path(on_cpu.folder) / name
        ).read_bytes()
    assert len(pinned) == len(copies) > 4
    assert {(c["device_id"], c["blocking"]) for c in copies} == {(0, False)}
    epochs = [r for r in read_rows(on_gpu) if r["split"] == "epoch"]
    assert [r["gpu_memory_mb"] for r in epochs] == [300]
    assert "peak GPU memory: 300 MB in use, 500 MB reserved" in log_of(on_gpu)
    assert "peak GPU memory" not in log_of(on_cpu)


def read_rows(cfg) -> list[dict]:
    lines = (Path(cfg.folder) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def log_of(cfg) -> str:
    return (Path(cfg.folder) / "log.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("option", ["MIX={name: Mixup}", "EMA={name: EMA}", "amp=True"])
def test_steps_between_two_readings_do_not_wait(small, gpu, monkeypatch, option):
    real, waits = training.train_step, {}

    def counted(run, loaded, epoch, step, updates):
        before = len(gpu.waits)
        numbers = real(run, loaded, epoch, step, updates)
        waits[step] = gpu.waits[before:]
        return numbers

    monkeypatch.setattr(training, "train_step", counted)
    options = ("epochs=1", "max_iters=5", "log_interval=3", "DATASET.batch_size=1")
    train(small(*options, option), validate=False)
    assert sorted(waits) == list(range(5))
    scaler = ["__bool__"] if option == "amp=True" else []  # Paddle's scaler reads one number
    for step, found in waits.items():
        assert found == (["numpy"] if step % 3 == 0 else []) + scaler, f"step {step}"


def test_loss_scaling_changes_no_number(small, gpu, tmp_path):
    """The scale is a power of two; the double computes in float32."""
    folders = [f"{tmp_path}/{name}" for name in ("exact", "amp")]
    for folder, option in zip(folders, ("log_interval=1", "amp=True"), strict=True):
        train(small("epochs=1", f"output_dir={folder}", option), validate=False)
    assert gpu.calls("auto_cast")
    weights = [(Path(folder) / "ppTSN_epoch_00001.pdparams").read_bytes() for folder in folders]
    assert weights[0] == weights[1]


def test_a_step_whose_gradients_overflow_is_skipped(small, gpu, monkeypatch):
    monkeypatch.setattr(amp, "INITIAL_SCALE", 2.0**127)
    seen = []
    step = training.update_weights

    def recorded(run, epoch, number):
        before = run.state.model.state_dict()["head.fc.weight"].numpy().copy()
        scale = run.state.scaler.state_dict()["scale"].item()
        step(run, epoch, number)
        after = run.state.model.state_dict()["head.fc.weight"].numpy()
        seen.append((scale, np.array_equal(before, after), np.isfinite(after).all()))

    monkeypatch.setattr(training, "update_weights", recorded)
    train(small("epochs=1", "DATASET.batch_size=1", "amp=True"), validate=False)
    scales, skipped, finite = zip(*seen, strict=True)
    assert scales[0] == 2.0**127 and skipped[0] and all(finite)
    for number, last in enumerate(skipped[:-1]):
        assert scales[number + 1] == scales[number] * (0.5 if last else 1)
    assert not all(skipped), "smaller scales do not overflow"


def test_transforms_and_shifts_on_a_gpu_do_not_wait(gpu):
    paddle.set_device("gpu:0")
    frames = Upload()(np.zeros((2, 8, 16, 16, 3), np.uint8))
    sample = {"frames": frames}
    normalize = Normalization([0.1, 0.2, 0.3], [1, 2, 3], tensor_shape=(1, 1, 1, 3))
    pathways = PackOutput(4).on_device(normalize.on_device(sample))
    assert pathways["slow"].shape == [2, 3, 2, 16, 16] and gpu.waits == []
    x = paddle.zeros([4, 8, 2, 2])
    shift_frames(x, 4, 2, 2)  # the first call copies the numbers of the channels
    gpu.waits.clear()
    shift_frames(x, 4, 2, 2)
    assert gpu.waits == []


def test_a_validation_reads_one_batch_behind(small, gpu, monkeypatch):
    """The forward pass of the next batch is queued before the scores of a batch are read."""
    events = []
    predictions = Recognizer2D.predictions
    monkeypatch.setattr(
        Recognizer2D,
        "predictions",
        lambda *a: events.append("queue") or predictions(*a),
    )
    monkeypatch.setattr(gpu, "waits", events)
    train(small("epochs=1", "DATASET.valid_batch_size=1"))
    found = [event for event in events if event in ("queue", "numpy")]
    start = found.index("queue")
    assert found[start : start + 3] == ["queue", "queue", "numpy"]


@pytest.mark.parametrize(("bad", "interval"), [(1, 3), (2, 3), (0, 3), (3, 3), (1, 1)])
def test_names_the_step_and_the_files_of_a_bad_batch(small, gpu, monkeypatch, bad, interval):
    cfg = small("epochs=1", f"log_interval={interval}", "DATASET.batch_size=1")
    real, files = Recognizer2D.losses, []
    step_of = training.train_step

    def counted(run, loaded, *rest):
        records = run.data.loader.dataset.records
        files.append(records[int(loaded.batch["index"][0])].location)
        return step_of(run, loaded, *rest)

    def losses(*args):
        found = real(*args)
        if not args[0].training:
            return found
        return {k: v * (float("nan") if len(files) == bad + 1 else 1) for k, v in found.items()}

    monkeypatch.setattr(training, "train_step", counted)
    monkeypatch.setattr(Recognizer2D, "losses", losses)
    with pytest.raises(NotFinite, match=f"the loss is nan at epoch 1 step {bad}, lr") as error:
        train(cfg, validate=False)
    assert files[bad] in str(error.value)
    stem = Path(cfg.folder) / f"not_finite_epoch1_step{bad}_rank0"
    assert json.loads(stem.with_suffix(".json").read_text())["files"] == [files[bad]]
    exact = bad % interval == 0  # read before the weights changed
    assert stem.with_suffix(".pdparams").exists() == exact
    assert ("-o log_interval=1 keeps batch and weights" in str(error.value)) != exact
    assert not list(Path(cfg.folder).glob("*.pdstate"))


def test_gradients_found_late_are_named_as_such(small, gpu, monkeypatch):
    cfg = small("epochs=1", "log_interval=3", "DATASET.batch_size=1")
    real, steps = training.gradient_norm, []

    def norm(run):
        steps.append(0)
        found = real(run)
        assert found is not None
        return found * (float("inf") if len(steps) == 2 else 1)

    monkeypatch.setattr(training, "gradient_norm", norm)
    with pytest.raises(NotFinite, match="^gradients are not finite at epoch 1 step 1, lr"):
        train(cfg, validate=False)


def test_a_stopped_epoch_goes_on_with_the_same_averages(small, gpu, monkeypatch, tmp_path):
    options = ("epochs=1", "log_interval=3", "DATASET.batch_size=1")
    whole = small(*options, f"output_dir={tmp_path}/whole")
    train(whole, validate=False)
    cfg, real = small(*options, f"output_dir={tmp_path}/parts"), training.train_step

    def stop(run, loaded, epoch, step, updates):
        run.stop.asked = step == 1  # between two readings
        return real(run, loaded, epoch, step, updates)

    monkeypatch.setattr(training, "train_step", stop)
    train(cfg, validate=False)
    monkeypatch.setattr(training, "train_step", real)
    train(cfg, validate=False, resume="auto")
    averages = [[r for r in rows_of(c) if r["split"] == "epoch"] for c in (whole, cfg)]
    assert averages[0] == averages[1] and averages[0]


def test_waiting_numbers_are_read_once_and_exactly():
    waiting = WaitingNumbers(2)
    assert [step for step in range(5) if waiting.due(step)] == [0, 2, 4]
    third = np.float32(1) / np.float32(3)
    loss = paddle.to_tensor(third, stop_gradient=False) * 1
    waiting.add(7, [4, 2], {"loss": loss, "top1": paddle.to_tensor([0.5])}, None)
    waiting.add(8, [1], {"loss": loss}, paddle.to_tensor(float("inf")))
    assert all(tensor.stop_gradient for tensor in waiting._tensors), "no graph is kept"
    first, second = waiting.read()
    assert first.losses == {"loss": float(third), "top1": 0.5} and first.finite
    assert (first.step, first.clips, first.indices, first.norm) == (7, 2, [4, 2], None)
    assert second.norm == float("inf") and not second.finite
    assert waiting.read() == []


def test_pinned_memory_is_held_until_its_copy_is_done(gpu):
    paddle.set_device("gpu:0")
    upload = Upload(ahead=2)
    for number in range(4):
        upload(np.full(3, number))
        upload.queued()
    assert len(upload._copies) == 2, "two batches are on their way"
    assert len(gpu.calls("Event.synchronize")) == 2
    upload.queued()  # nothing new
    assert len(gpu.calls("Event.record")) == 4


def test_results_are_one_behind_on_a_gpu_only(gpu):
    def work(log):
        for number in range(3):
            log.append(f"queue {number}")
            yield number

    def order():
        log = []
        for number in one_behind(work(log)):
            log.append(f"read {number}")
        return log

    assert order() == ["queue 0", "read 0", "queue 1", "read 1", "queue 2", "read 2"]
    paddle.set_device("gpu:0")
    assert order() == ["queue 0", "queue 1", "read 0", "queue 2", "read 1", "read 2"]


def test_mixed_precision_and_sync_batch_norm_of_several_gpus(small, gpu, monkeypatch):
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    paddle.set_device("gpu:0")
    cfg = small("amp=True", "amp_level=O2", "sync_bn=True")
    model = paddle.nn.Linear(2, 2)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
    _, _, scaler = amp.prepare(cfg, model, optimizer)
    assert scaler.is_enable() and scaler.get_init_loss_scaling() == 65536
    (decorated,) = gpu.calls("decorate")
    assert decorated["level"] == "O2" and decorated["dtype"] == "float16"
    with amp.autocast(cfg, model):
        pass
    assert gpu.calls("auto_cast") == [{"level": "O2", "dtype": "float16"}]
    dist.init_ranks()
    assert gpu.calls("init_parallel_env") == [{}]


def test_trainable_converts_batch_norms_and_wraps_the_model(small, gpu, monkeypatch):
    paddle.set_device("gpu:0")
    cfg = small("sync_bn=True")
    model = build_model(cfg, 3)
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    network, state = trainable(cfg, model, cfg.OPTIMIZER.make(), Classes(3, None))
    assert network is state.model is model
    assert gpu.calls("convert_sync_batchnorm")[0] == {"layer": model}
    norms = [layer for layer in model.sublayers() if is_batch_norm(layer)]
    assert norms and all(isinstance(norm, paddle.nn.SyncBatchNorm) for norm in norms)
    assert gpu.calls("DataParallel") == [{"layers": model}]


@pytest.mark.parametrize(
    ("norm", "allowed"),
    [(SubBatchNorm3D(2, splits=2), False), (UnbiasedNorm(2), False), (SubBatchNorm3D(2), True)],
)
def test_batch_norms_of_all_gpus_replace_plain_ones_only(small, norm, allowed):
    cfg, model = small("sync_bn=True"), paddle.nn.Sequential(paddle.nn.Linear(2, 2), norm)
    if allowed:
        check_sync_bn(cfg, model)  # pyright: ignore[reportArgumentType]
        return
    with pytest.raises(ConfigError, match=rf"replace 1, which is no plain .*{type(norm).__name__}"):
        check_sync_bn(cfg, model)  # pyright: ignore[reportArgumentType]


def test_a_gpu_without_float16_is_an_error(small, gpu):
    """Paddle itself would train in float32, with a warning in each step."""
    gpu.capability = (6, 1)
    with pytest.raises(ConfigError, match="amp needs a GPU of compute capability 7.0 or higher"):
        train(small("amp=True"), validate=False)


def test_a_run_whose_steps_are_all_skipped_stops(small, gpu, monkeypatch):
    monkeypatch.setattr(training, "MOST_SKIPPED", 4)
    monkeypatch.setattr(amp, "INITIAL_SCALE", float("inf"))
    message = r"overflowed in 5 steps one after the other, up to epoch 1 step 4, .*lower learning"
    with pytest.raises(NotFinite, match=message):
        train(small("epochs=1", "DATASET.batch_size=1", "amp=True"), validate=False)
