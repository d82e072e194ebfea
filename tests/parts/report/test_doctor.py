"""The doctor reports broken packages and does not fail with them; problems follow from facts."""

import copy
import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from paddlevideo.report import doctor
from paddlevideo.report.doctor import run_probe, text
from paddlevideo.report.doctor_findings import OPTIONAL, REQUIRED, find_problems, parse_version
from paddlevideo.report.doctor_probes import probe


@pytest.fixture(scope="module")
def facts(root):
    """What the tool finds on this machine."""
    done = run_tool(root, "-B", "tools/doctor.py", "--json")
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def run_tool(root, *arguments, **env):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- this machine -------------------------------------------------------------------------------


def test_collects_facts(facts):
    paddle, av = facts["packages"]["paddle"], facts["packages"]["av"]
    assert paddle["works"]["cpu"] == "yes" and paddle["threads"] >= 1
    assert len(paddle["installed"]) == 1 and av["no_decoder"] == []
    assert facts["packages"]["cv2"]["ffmpeg"] in (True, False)
    assert set(facts["packages"]) == set(REQUIRED | OPTIONAL)
    assert facts["backends"]["paddle"] == ""
    assert not [problem for problem in facts["problems"] if problem["level"] == "error"]


def test_prints_facts(facts):
    report = text(facts)
    for start in ("paddlevideo ", "Paddle  ", "threads ", "/dev/shm ", "backends ", "  numpy "):
        assert f"\n{start}" in f"\n{report}", start
    assert f"numpy {facts['packages']['numpy']['installed']['numpy']}" in report
    for name in ("ray", "s3fs", "fastapi", "nncf", "huggingface_hub"):  # of an extra, not imported
        assert re.search(rf"^  {name} +(-|[\w-]+ \d[\w.]*)$", report, re.M), name


# --- broken and missing packages ----------------------------------------------------------------


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """`fake(name, source)` makes a package that hides the installed one."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(name, source):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
        return name

    return make


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "raise ImportError('libcuda.so.1: cannot open shared object file')",
            "ImportError: libcuda.so.1: cannot open",
        ),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGILL)",
            "importing it ends Python with signal SIGILL",
        ),
        (
            "import os, sys\nsys.stderr.write('no such GPU\\n')\nsys.stderr.flush()\nos._exit(3)",
            "exit code 3: no such GPU",
        ),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("class Odd(BaseException): pass\nraise Odd()", "Odd: Odd"),
        ("def", "SyntaxError"),
    ],
)
def test_reports_a_package_that_cannot_be_imported(fake, source, message):
    assert message in run_probe(fake("onnx", source))["broken"]


def test_stops_a_package_that_hangs(fake, monkeypatch):
    monkeypatch.setattr(doctor, "PROBE_TIMEOUT", 0.5)
    name = fake("onnx", "import time\ntime.sleep(300)")
    assert run_probe(name)["broken"] == "importing it takes more than 0.5 s"


def test_ignores_what_a_package_prints(fake):
    printed = "import os\nprint('doctor: {}')\nos.write(1, b'doctor: {\"broken\": 1}\\n')\n"
    assert run_probe(fake("onnx", printed + "__version__ = '7'"))["reports"] == "7"


def test_reports_a_package_without_the_expected_modules(fake):
    message = "ModuleNotFoundError: No module named 'av.codec'"
    assert run_probe(fake("av", "__version__ = '1'"))["broken"].startswith(message)
    assert run_probe(fake("openvino", ""))["broken"].startswith("AttributeError: ")


def test_reports_a_process_that_does_not_answer():
    broken = run_probe("x", ["/no/such/python"])["broken"]
    assert broken.startswith("its process could not be started")
    command = [sys.executable, "-c", "print('nothing')"]
    message = "importing it ends Python with exit code 0"
    assert run_probe("x", command)["broken"] == message


def test_tool_reports_a_broken_paddle(root, fake):
    fake("paddle", "raise ImportError('libgomp.so.1: no such file')")
    for name in OPTIONAL:  # the installed ones take seconds
        fake(name, "")
    done = run_tool(root, "-B", "tools/doctor.py", PYTHONPATH=os.environ["PYTHONPATH"])
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "error: paddle is broken: ImportError: libgomp.so.1: no such file" in done.stdout
    assert "fix: pip install --force-reinstall paddlepaddle" in done.stdout
    assert "  numpy " in done.stdout


def test_tool_works_without_any_package(root):
    # With -S (without `site`), Python finds no installed package.
    done = run_tool(root, "-B", "-S", "tools/doctor.py", "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 1 and facts["packages"]["paddle"] == facts["packages"]["numpy"] == {}
    errors = [problem["what"] for problem in facts["problems"] if problem["level"] == "error"]
    assert errors == [f"{names[0]} is not installed" for names, _ in REQUIRED.values()]
    printed = run_tool(root, "-B", "-S", "tools/doctor.py").stdout
    assert printed.count("is not installed") == len(REQUIRED)


def test_probe_never_raises():
    message = "ModuleNotFoundError: No module named 'no_such_package'"
    assert probe("no_such_package") == {"broken": message}
    assert "path" in probe("json")


# --- problems -----------------------------------------------------------------------------------


@pytest.fixture
def healthy(facts):
    """Facts of a machine without problems."""
    good = copy.deepcopy(facts)
    packages = good["packages"]
    for name, (distributions, oldest) in (REQUIRED | OPTIONAL).items():
        packages[name] |= {"installed": {distributions[0]: oldest}, "reports": oldest}
        packages[name].pop("broken", None)
    build = {"cuda": None, "gpus": [], "tensorrt": None, "onednn": False}
    packages["paddle"] |= {**build, "works": {"cpu": "yes"}}
    packages["av"] |= {"no_decoder": [], "no_encoder": []}
    system = {"python": "3.12.1", "shm_mb": 8192, "quota": None, "cores": 8}
    good["system"] |= {**system, "file_names": "utf-8", "disk_free_mb": 9000}
    good["paddlevideo"]["installed"] = good["paddlevideo"]["version"]
    good |= {"gpu_driver": None, "environment": {}}
    assert find_problems(good) == []
    return good


GPU = {
    "cuda": "12.6",
    "cudnn": "9.5",
    "gpus": [{"name": "A", "memory_mb": 9}],
    "works": {"cpu": "yes", "gpu:0": "yes"},
}
NO_GPU = GPU | {"gpus": []}
TWO_OPENCV = {"opencv-python-headless": "5.0.0.93", "opencv-python": "4.12.0"}
TWO_PADDLE = {"paddlepaddle": "3.4.0", "paddlepaddle-gpu": "3.4.0"}


@pytest.mark.parametrize(
    ("change", "level", "what", "fix"),
    [
        ({"packages.numpy": {}}, "error", "numpy is not installed", "pip install numpy"),
        (
            {"packages.numpy.installed": {"numpy": "1.26.4"}},
            *("error", "numpy 1.26.4 is older than 2.0", "numpy>=2.0"),
        ),
        (
            {"packages.onnx": {"installed": {"onnx": "1.17.0"}, "broken": "X"}},
            *("warning", "onnx is broken: X", "reinstall onnx"),
        ),
        (
            {"packages.cv2.installed": TWO_OPENCV},
            "warning",
            "opencv-python-headless 5.0.0.93 and opencv-python 4.12.0 are both installed",
            "pip uninstall -y opencv-python",
        ),
        (
            {"packages.paddle.installed": TWO_PADDLE},
            "warning",
            "paddlepaddle 3.4.0 and paddlepaddle-gpu 3.4.0 are both installed",
            "then install one of them",
        ),
        (
            {"packages.onnx.installed": {"onnx": "1.19.0"}},
            *("warning", "does not work with onnx 1.19.0", "'onnx<1.18'"),
        ),
        (
            {"packages.av.no_decoder": ["h264"]},
            *("error", "no H.264 decoder", "--only-binary :all: av"),
        ),
        ({"packages.av.no_encoder": ["libx264"]}, "note", "no x264 encoder", "pip install"),
        (
            {"packages.paddle.works": {"cpu": "bad"}},
            *("error", "Paddle cannot compute on cpu: bad", "install the build"),
        ),
        (
            {"gpu_driver": "A, 550, 80 GB"},
            *("warning", "Paddle's build is for CPUs", "paddlepaddle-gpu"),
        ),
        (
            {"packages.paddle": NO_GPU},
            *("warning", "there is no NVIDIA driver", "--gpus all"),
        ),
        (
            {"packages.paddle": NO_GPU, "gpu_driver": "A"},
            *("warning", "the driver is too old", "install the driver"),
        ),
        (
            {
                "packages.paddle": NO_GPU,
                "gpu_driver": "A",
                "environment": {"CUDA_VISIBLE_DEVICES": ""},
            },
            *("warning", "CUDA_VISIBLE_DEVICES hides all GPUs", "unset"),
        ),
        (
            {
                "packages.paddle.installed": {"paddlepaddle": "3.3.1"},
                "packages.paddle.onednn": True,
            },
            "note",
            "Paddle 3.3.1 with oneDNN cannot run exported programs that resize",
            "--enable_mkldnn False",
        ),
        (
            {"environment": {"PADDLE_TRAINERS_NUM": "4"}},
            *("warning", "PADDLE_TRAINERS_NUM=4 is set", "unset PADDLE_TRAINERS_NUM"),
        ),
        (
            {"environment": {"PADDLE_TRAINERS_NUM": "two"}},
            *("warning", "PADDLE_TRAINERS_NUM=two is set", "unset PADDLE_TRAINERS_NUM"),
        ),
        ({"system.python": "3.10.4"}, "error", "Python 3.10.4 is older than 3.11", "newer"),
        ({"system.shm_mb": 64}, "warning", "/dev/shm has 64 MB", "--shm-size=8g"),
        ({"system.quota": 2.0}, "warning", "may use 2 cores and sees 8", "--cpuset-cpus"),
        ({"system.file_names": "ascii"}, "warning", "file names is ascii", "C.UTF-8"),
        ({"system.disk_free_mb": 100}, "warning", "only 100 MB", "free some space"),
        ({"paddlevideo.installed": "0.0.1"}, "warning", "0.0.1 is installed", "pip uninstall"),
    ],
)
def test_finds_each_problem(healthy, change, level, what, fix):
    for path, value in change.items():
        owner = healthy
        *parents, key = path.split(".")
        for parent in parents:
            owner = owner[parent]
        owner[key] = owner[key] | value if value == NO_GPU else value
    problems = find_problems(healthy)
    assert len(problems) == 1, problems
    assert problems[0].level == level and what in problems[0].what and fix in problems[0].fix
    healthy["problems"] = [problem._asdict() for problem in problems]
    assert problems[0].what in text(healthy)


def test_finds_no_problems_on_a_healthy_gpu_machine(healthy):
    healthy["packages"]["paddle"] |= GPU | {"installed": {"paddlepaddle-gpu": "3.4.0"}}
    healthy["gpu_driver"] = "A, 550, 80 GB"
    assert find_problems(healthy) == []
    healthy["packages"]["decord"]["installed"] = {"decord2": "0.1.0"}
    assert find_problems(healthy) == []


def test_lists_the_most_severe_problem_first(healthy):
    healthy["system"]["shm_mb"] = 64
    healthy["packages"]["numpy"] = {}
    healthy["packages"]["av"]["no_encoder"] = ["libx264"]
    assert [problem.level for problem in find_problems(healthy)] == ["error", "warning", "note"]


def test_reports_which_backends_work():
    paddle = {"reports": "3", "tensorrt": "10.3.0", "tensorrt_library": None}
    packages = {"paddle": paddle, "onnxruntime": {"broken": "X"}, "openvino": {}}
    assert doctor.backends(packages) == {
        "paddle": "",
        "tensorrt": "the TensorRT 10.3.0 library is not installed",
        "onnxruntime": "X",
        "openvino": "pip install openvino",
    }
    paddle["tensorrt_library"] = "10.3.0"
    assert doctor.backends(packages)["tensorrt"] == ""
    missing = doctor.backends({})
    assert missing["tensorrt"] == missing["paddle"] == "pip install paddlepaddle"


def test_compares_versions():
    assert parse_version("3.10.0") > parse_version("3.9")
    assert parse_version("5.0.0.93") >= parse_version("4.10")
    assert parse_version("3.3.1.post1") == (3, 3, 1) and parse_version("2.0rc1") == (2, 0)
    assert parse_version("") == () and parse_version("unknown") == ()


# --- other files of the project -----------------------------------------------------------------


def test_versions_agree_with_setup(root):
    setup = (root / "setup.py").read_text(encoding="utf-8")
    bounds = dict(re.findall(r'"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)[";]', setup))
    for distributions, oldest in (REQUIRED | OPTIONAL).values():
        assert bounds[distributions[0]] == oldest, distributions[0]


def test_bug_reports_begin_with_the_doctor(root):
    file = root / ".github" / "ISSUE_TEMPLATE" / "bug.yml"
    fields = yaml.safe_load(file.read_text(encoding="utf-8"))["body"]
    assert "python tools/doctor.py" in fields[0]["attributes"]["description"]
    assert fields[0]["validations"]["required"]
    assert len({field["id"] for field in fields}) == len(fields)
