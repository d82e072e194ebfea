"""The check of a GPU machine: rows pass, fail and are skipped; a crash is a row."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paddlevideo import cli
from paddlevideo.benchmarks import child_commands, gpu_check
from paddlevideo.benchmarks.gpu_check import Check, Done, Row
from paddlevideo.benchmarks.gpu_runtime import MARK, Job, measure
from paddlevideo.runtimes.onnx_runtime import CUDA, TENSORRT
from tests.gpu_build import GpuBuild

FACTS = {"system": {"cpu": "<b>"}}


class Machine:
    """A double of the commands: it writes what they would write.

    Attributes:
        commands: (words, variables) of each.
        losses: of a training, by the name of its folder.
        results: of a runtime, by (kind, suffix, precision).
        broken: what a command with this word in it returns instead.
        predictions: by --use_gpu, or by that and --precision.
    """

    def __init__(self):
        self.commands: list[tuple[list[str], dict]] = []
        self.losses: dict[str, list[float]] = {}
        self.results: dict[tuple, dict] = {}
        self.broken: dict[str, Done] = {}
        rows = [{"input_path": name, "class_ids": [2], "scores": [0.9]} for name in "abc"]
        self.predictions: dict = {"True": rows, "False": rows}

    def __call__(self, command, variables) -> Done:
        words = list(command)
        self.commands.append((words, dict(variables)))
        text = " ".join(words)
        for word, done in self.broken.items():
            if word in text:
                return done
        folder = next((w[11:] for w in words if w.startswith("output_dir=")), None)
        if folder:
            self._train(Path(folder))
        elif "export" in words:
            out = Path(words[words.index("-o") + 1])
            out.mkdir()
            for suffix in (".pdmodel", ".json", ".onnx"):
                (out / f"ppTSN{suffix}").touch()
        elif "predict" in words:
            out = Path(words[words.index("--save_json") + 1])
            key = words[words.index("--use_gpu") + 1]
            precision = words[words.index("--precision") + 1]
            rows = self.predictions.get((key, precision), self.predictions[key])
            out.write_text(json.dumps(rows))
        elif "quantize" in words:
            return Done(0, "[time] a line\nfp32 and int8:\n  same best class    100.00 %\n")
        elif words[-1].endswith("job.json"):
            return self._run(json.loads(Path(words[-1]).read_text()))
        return Done(0, "")

    def _train(self, folder: Path) -> None:
        first, last, cost = self.losses.get(folder.name, [1.4, 1.2, 0.1])
        folder.mkdir()
        rows = [
            {"split": "train", "loss": first, "batch_cost": 9.0},
            {"split": "train", "loss": 1.3, "batch_cost": cost},
            {"split": "epoch", "loss": last},
            {"split": "valid", "loss": 5.0},
        ]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def _run(self, job: dict) -> Done:
        result = {"backend": "B", "difference": 1e-6, "same_top1": True, "seconds": 0.01}
        result["seconds"] = 0.1 if job["device"] == "cpu" else 0.01
        result |= self.results.get((job["kind"], job["suffix"], job["precision"]), {})
        return Done(0, f"a line of a library\n{MARK}{json.dumps(result)}\n")


@pytest.fixture
def machine(monkeypatch):
    """A machine with GPUs on which every runtime is installed."""
    runtimes = ("paddle", "tensorrt", "onnxruntime", "openvino", "eager")
    monkeypatch.setattr(gpu_check, "available_backends", lambda: dict.fromkeys(runtimes, ""))
    monkeypatch.setattr(gpu_check, "missing_provider", lambda kind, precision: "")
    return Machine()


def rows_of(machine, folder: Path, num_gpus: int = 2) -> dict[str, Row]:
    rows = list(gpu_check.check(Check(folder, num_gpus, machine)))
    gpu_check.write_results(folder, rows, FACTS)
    return {row.name: row for row in rows}


def test_a_machine_on_which_all_works(machine, tmp_path):
    machine.losses = {"fp32": [1.4002, 1.21, 0.02], "amp": [1.41, 1.25, 0.01]}
    rows = rows_of(machine, tmp_path)
    assert {row.status for row in rows.values()} == {"pass"}, rows
    assert rows["train on 1 GPU, fp32"].speed == pytest.approx(5)
    assert "first loss 1.4002, CPU 1.4" in rows["train on 1 GPU, fp32"].result
    assert rows["GPU, tensorrt .pdmodel fp16"].speed == pytest.approx(10)
    kinds = [name for name in rows if name.startswith("GPU,")]
    assert (
        len(kinds) == 13 and "GPU, eager fp16" in kinds and "GPU, onnxruntime .onnx fp16" in kinds
    )
    assert rows["quantize for TensorRT"].result == "same best class 100.00 %"
    content = json.loads((tmp_path / "gpu_check.json").read_text())
    assert content["facts"] == FACTS and len(content["rows"]) == len(rows)
    html = (tmp_path / "gpu_check.html").read_text()
    assert "30 passed, 0 failed" in html and "&lt;b&gt;" in html and "<b>" not in html


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"class_ids": [1]}, "the class must be the same"),
        ({"scores": [0.8]}, "score may differ by 0.001"),
        ({"input_path": "d"}, "3 videos on a GPU, 3 on the CPU"),
    ],
)
def test_predictions_are_those_of_the_cpu(machine, tmp_path, change, text):
    row, *others = machine.predictions["True"]
    machine.predictions["True"] = [row | change, *others]
    rows = rows_of(machine, tmp_path)
    for name in ("auto fp32", "tensorrt fp32", "paddle fp32", "onnxruntime fp32"):
        found = rows[f"predict videos, GPU, {name}"]
        assert found.status == "fail" and text in found.reason


def test_predictions_in_fp16_may_differ_more(machine, tmp_path):
    row, *others = machine.predictions["True"]
    near = {"class_ids": [1], "scores": [0.88]}
    machine.predictions["True", "fp16"] = [row | near, *others]
    rows = rows_of(machine, tmp_path)
    found = rows["predict videos, GPU, tensorrt fp16"]
    assert found.status == "pass" and "3 videos; 1 have another best class" in found.result
    assert rows["predict videos, GPU, tensorrt fp32"].status == "pass"
    predict = [words for words, _ in machine.commands if "predict" in words]
    assert ["--backend", "tensorrt", "--precision", "fp16"] in [words[-4:] for words in predict]


def test_asks_for_the_devices_and_precisions_of_each_row(machine, tmp_path):
    rows_of(machine, tmp_path)
    texts = [" ".join(words) for words, _ in machine.commands]
    train = [text for text in texts if "output_dir=" in text]
    assert [("use_gpu=True" in t, "amp=True" in t) for t in train] == [
        (False, False), (False, False), (True, False), (True, True), (False, False),
    ]  # fmt: skip
    assert "--gpus=0,1" in train[-1] and "sync_bn=True" in train[-1]
    assert "DATASET.batch_size=4" in train[-1], "8 clips in all"
    start = f"-w {tmp_path}/start/ppTSN_epoch_00001.pdparams"
    assert [start in text for text in train] == [False, True, True, True, True]
    # TF32 would be a difference; fp16 rows do not set it, as users do not.
    exact = [v == {"NVIDIA_TF32_OVERRIDE": "0"} for words, v in machine.commands if "-c" in words]
    assert sum(exact) == 6, "the trainings and the export"
    assert (tmp_path / "train_script.py").read_text() == gpu_check.SCRIPT


@pytest.mark.parametrize(
    ("name", "losses", "row", "reason"),
    [
        ("fp32", [1.5, 1.2, 0.1], "train on 1 GPU, fp32", "first loss differs by 0.071, at most 0"),
        ("fp32", [1.4, 1.9, 0.1], "train on 1 GPU, fp32", "last epoch's loss differs by 0.58"),
        ("amp", [float("nan"), 1.2, 0.1], "train on 1 GPU, AMP fp16", "first loss differs by nan"),
        ("all", [7.0, 3.0, 0.1], "train on all GPUs (2)", "last epoch's loss differs by 1.5"),
    ],
)
def test_other_losses_fail_their_row_only(machine, tmp_path, name, losses, row, reason):
    machine.losses = {name: losses}
    rows = rows_of(machine, tmp_path)
    assert rows[row].status == "fail" and reason in rows[row].reason
    assert [r.name for r in rows.values() if r.status != "pass"] == [row]


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"difference": 9e-5}, "pass"),
        ({"difference": 2e-4}, "fail"),
        ({"difference": float("inf")}, "fail"),
        ({"same_top1": False}, "fail"),
    ],
)
def test_other_logits_fail(machine, tmp_path, result, status):
    machine.results = {("paddle", ".json", "fp32"): result}
    rows = rows_of(machine, tmp_path)
    assert rows["GPU, paddle .json fp32"].status == status
    assert rows["GPU, paddle .json fp16"].status == "pass"


@pytest.mark.parametrize(("difference", "status"), [(0.1, "pass"), (0.3, "fail")])
def test_int8_may_change_the_best_class_of_noise(machine, tmp_path, difference, status):
    result = {"same_top1": False, "difference": difference}
    machine.results = {("tensorrt", ".pdmodel", "int8"): result}
    assert rows_of(machine, tmp_path)["GPU, tensorrt .pdmodel int8"].status == status


def test_a_crash_is_a_row_and_the_rest_goes_on(machine, tmp_path):
    machine.broken = {
        "amp=True": Done(-signal.SIGSEGV, "loading\n\nFatalError: Segmentation fault\n"),
        "paddle.distributed.launch": Done(1, "\n".join(map(str, range(99)))),
        "predict": Done(0, ""),  # and writes no file
    }
    rows = rows_of(machine, tmp_path)
    crash = rows["train on 1 GPU, AMP fp16"]
    assert crash.status == "fail" and crash.reason == (
        "ended by signal 11\nloading\nFatalError: Segmentation fault"
    )
    assert rows["train on all GPUs (2)"].reason.splitlines() == [
        "exit code 1", *map(str, range(87, 99)),
    ]  # fmt: skip
    predict = [row for name, row in rows.items() if name.startswith("predict videos")]
    assert len(predict) == 8
    assert all(row.reason.startswith("FileNotFoundError") for row in predict)
    assert sum(row.status == "fail" for row in rows.values()) == 10


def test_without_a_cpu_run_there_is_nothing_to_compare_with(machine, tmp_path):
    machine.broken = {"/cpu ": Done(1, "out of memory")}
    rows = rows_of(machine, tmp_path)
    assert rows["train on the CPU"].reason == "exit code 1\nout of memory"
    assert "no numbers of a CPU" in rows["train on 1 GPU, fp32"].reason


def test_skips_what_is_not_there(machine, tmp_path, monkeypatch):
    machine.broken = {"--format all": Done(0, "")}  # an export without programs
    missing = {"paddle": "", "eager": "", "tensorrt": "no TensorRT", "onnxruntime": "pip install x"}
    monkeypatch.setattr(gpu_check, "available_backends", lambda: missing)
    rows = rows_of(machine, tmp_path, num_gpus=1)
    reasons = {name: row.reason for name, row in rows.items() if row.status == "skipped"}
    assert reasons["train on all GPUs (1)"] == "this machine has one GPU"
    assert reasons["GPU, tensorrt .json fp16"] == "no TensorRT"
    assert reasons["quantize for TensorRT"] == "no TensorRT"
    assert reasons["GPU, onnxruntime .onnx fp32"] == "pip install x"
    assert reasons["GPU, paddle .json fp32"] == "the export has no .json"
    assert rows["GPU, eager fp32"].status == "pass", "it needs no program"


@pytest.mark.parametrize(("precision", "needed"), [("fp32", CUDA), ("fp16", TENSORRT)])
def test_a_build_of_onnxruntime_without_the_provider_is_skipped(monkeypatch, precision, needed):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert needed in gpu_check.missing_provider("onnxruntime", precision)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [needed])
    assert gpu_check.missing_provider("onnxruntime", precision) == ""
    assert gpu_check.missing_provider("paddle", precision) == ""


def test_runs_real_commands(monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    crash = "import os, signal; print('a line'); os.kill(os.getpid(), signal.SIGKILL)"
    done = gpu_check.run_command([sys.executable, "-c", crash], {})
    assert done == Done(-signal.SIGKILL, "a line\n")
    show = "import os, paddlevideo, sys; print(os.environ['A']); print(1, file=sys.stderr)"
    assert gpu_check.run_command([sys.executable, "-c", show], {"A": "x"}) == Done(0, "x\n1\n")
    monkeypatch.setattr(child_commands, "LIMIT", 0.1)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert gpu_check.run_command(sleep, {}) == Done(124, "it was ended after 0 s")


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_command_started_ends_with_it(monkeypatch, tmp_path, ends):
    """A launcher that ends, or takes too long, leaves no trainer on the GPU.

    Paddle's puts trainers into groups of their own, and ends them when it is asked to end.
    """
    script = tmp_path / "launcher.py"
    script.write_text(
        "import signal, subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "own = sys.argv[2] == 'False'\n"
        "child = subprocess.Popen(sleep, stdout=-3, stderr=-3, start_new_session=own)\n"
        "def end(*_):\n"
        "    child.terminate()\n"
        "    sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "time.sleep(60 * own)\n",
        encoding="utf-8",
    )
    note = tmp_path / "pid"
    communicate = subprocess.Popen.communicate

    def after_start(self, timeout=None):
        while not (note.exists() and note.read_text()):
            time.sleep(0.01)
        return communicate(self, timeout=timeout if ends else 0.1)

    monkeypatch.setattr(subprocess.Popen, "communicate", after_start)
    done = gpu_check.run_command([sys.executable, str(script), str(note), str(ends)], {})
    assert done.code == (0 if ends else 124)
    stat = Path(f"/proc/{note.read_text()}/stat")
    for _ in range(1000):  # the kernel ends it soon; nobody may have collected it yet
        state = stat.read_text().rsplit(")", 1)[1].split()[0] if stat.exists() else "gone"
        if state in ("gone", "Z", "X"):
            return
        time.sleep(0.01)
    pytest.fail(f"the process is still there, {state}")


def test_a_machine_without_a_gpu_gets_one_line(monkeypatch, capsys, tmp_path):
    GpuBuild(monkeypatch, num_gpus=0)
    assert cli.main(["gpu-check", "--out", str(tmp_path / "x")]) == 2
    seen = capsys.readouterr()
    assert seen.err == "error: gpu-check needs a GPU: this machine has no GPU\n" and not seen.out
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("status", "code"), [("pass", 0), ("skipped", 0), ("fail", 1)])
def test_the_exit_code_is_that_of_the_rows(monkeypatch, capsys, tmp_path, status, code):
    GpuBuild(monkeypatch, num_gpus=3)
    asked = []

    def check(checks):
        asked.append(checks)
        yield Row("a", "pass")
        yield Row("b", status, reason="because")

    monkeypatch.setattr(gpu_check, "check", check)
    monkeypatch.setattr(gpu_check, "examine", lambda: FACTS)
    flags = ["--out", str(tmp_path / "x"), "--epochs", "5", "--clips", "3"]
    assert cli.main(["gpu-check", *flags]) == code
    assert (asked[0].num_gpus, asked[0].epochs, asked[0].clips) == (3, 5, 3)
    assert (tmp_path / "x/gpu_check.html").exists()
    assert "results: " in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "suffix"), [("paddle", ".pdmodel"), ("eager", "")])
def test_measures_a_runtime(exported, monkeypatch, kind, suffix):
    """On a CPU; the job of a GPU differs in its device alone."""
    monkeypatch.setattr("paddlevideo.benchmarks.gpu_runtime.ROUNDS", 2)
    given = (str(exported.folder), kind, suffix, "cpu", "fp32")
    found = measure(Job(*given, str(exported.config), str(exported.weights)))
    assert found["difference"] < 1e-4 and found["same_top1"] and found["seconds"] > 0
    assert kind in found["backend"].lower()


def test_a_runtime_that_returns_something_else_differs(exported, monkeypatch):
    GpuBuild(monkeypatch)  # its predictor returns zeros
    given = (str(exported.folder), "paddle", ".json", "gpu:0", "fp16")
    found = measure(Job(*given, "", ""))
    assert found["difference"] > 0.5 and found["backend"] == "Paddle Inference on gpu:0, fp16"
    with pytest.raises(ValueError, match=r"no \.xml in it"):
        measure(Job(str(exported.folder), "paddle", ".xml", "gpu:0", "fp16", "", ""))
