"""The doctor reports what is broken and does not break with it; its findings are those that the facts call for."""

import copy
import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from paddlevideo.report import doctor
from paddlevideo.report.doctor import ask, cpu_quota, examine, text
from paddlevideo.report.doctor_findings import NEEDED, OPTIONAL, find_problems, numbers
from paddlevideo.report.doctor_probes import probe


@pytest.fixture(scope="module")
def facts():
    return examine()


def run(root, *arguments, **env):
    command = [sys.executable, *arguments]
    return subprocess.run(
        command,
        cwd=root,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- this machine ----------------------------------------------------------------------------------------------------


def test_facts_of_this_machine(facts):
    paddle = facts["packages"]["paddle"]
    assert (
        paddle["works"]["cpu"] == "yes" and paddle["threads"] >= 1 and len(paddle["installed"]) == 1
    )
    assert facts["packages"]["av"]["no_decoder"] == [] and facts["packages"]["cv2"]["ffmpeg"] in (
        True,
        False,
    )
    assert set(facts["packages"]) == set(NEEDED | OPTIONAL) and facts["backends"]["paddle"] == ""
    assert not [p for p in facts["problems"] if p["level"] == "error"]
    assert json.loads(json.dumps(facts)) == facts


def test_text_of_this_machine(facts):
    said = text(facts)
    for word in (
        "paddlevideo ",
        "Paddle ",
        "oneDNN",
        "threads ",
        "/dev/shm ",
        "backends ",
        "  numpy ",
    ):
        assert f"\n{word}" in f"\n{said}" or word in ("Paddle ", "oneDNN"), word
    assert f"numpy {facts['packages']['numpy']['installed']['numpy']}" in said


# --- broken and absent packages --------------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """`fake(name, source)` puts a package in front of the installed ones."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(name, source):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
        return name

    return make


@pytest.mark.parametrize(
    ("source", "said"),
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
def test_a_package_that_cannot_be_imported_is_reported(fake, source, said):
    assert said in ask(fake("onnx", source))["broken"]


def test_a_package_that_hangs_is_given_up(fake, monkeypatch):
    monkeypatch.setattr(doctor, "TIMEOUT", 1)
    assert (
        ask(fake("onnx", "import time\ntime.sleep(300)"))["broken"]
        == "importing it takes more than 1 s"
    )


def test_what_a_package_prints_is_no_answer(fake):
    source = "import os\nprint('doctor: {}')\nos.write(1, b'doctor: {\"broken\": 1}\\n')\n__version__ = '7'"
    assert ask(fake("onnx", source))["reports"] == "7"


def test_a_package_without_the_expected_parts_is_broken(fake):
    assert ask(fake("av", "__version__ = '1'"))["broken"].startswith(
        "ModuleNotFoundError: No module named 'av.codec'"
    )
    assert ask(fake("openvino", ""))["broken"].startswith("AttributeError: ")


def test_no_process_at_all():
    assert ask("x", ["/no/such/python"])["broken"].startswith("no process could be started")
    assert (
        ask("x", [sys.executable, "-c", "print('nothing')"])["broken"]
        == "importing it ends Python with exit code 0"
    )


def test_the_tool_with_a_broken_paddle(root, fake):
    fake("paddle", "raise ImportError('libgomp.so.1: no such file')")
    done = run(root, "-B", "tools/doctor.py", PYTHONPATH=os.environ["PYTHONPATH"])
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "error: paddle is broken: ImportError: libgomp.so.1: no such file" in done.stdout
    assert (
        "way out: pip install --force-reinstall paddlepaddle" in done.stdout
        and "  numpy " in done.stdout
    )


def test_the_tool_where_nothing_is_installed(root):
    # Without `site` no installed package is found.
    done = run(root, "-B", "-S", "tools/doctor.py", "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 1 and facts["packages"]["paddle"] == facts["packages"]["numpy"] == {}
    assert [p["what"] for p in facts["problems"] if p["level"] == "error"] == [
        f"{names[0]} is not installed" for names, _ in NEEDED.values()
    ]
    assert run(root, "-B", "-S", "tools/doctor.py").stdout.count("is not installed") == len(NEEDED)


def test_a_probe_never_raises(monkeypatch):
    assert probe("no_such_package") == {
        "broken": "ModuleNotFoundError: No module named 'no_such_package'"
    }
    assert "path" in probe("json")


# --- findings --------------------------------------------------------------------------------------------------------


@pytest.fixture
def healthy(facts):
    """Facts of a machine without any trouble."""
    good = copy.deepcopy(facts)
    for name, (distributions, oldest) in (NEEDED | OPTIONAL).items():
        good["packages"][name] |= {"installed": {distributions[0]: oldest}, "reports": oldest}
        good["packages"][name].pop("broken", None)
    good["packages"]["paddle"] |= {
        "cuda": None,
        "gpus": [],
        "works": {"cpu": "yes"},
        "tensorrt": None,
        "onednn": False,
    }
    good["packages"]["av"] |= {"no_decoder": [], "no_encoder": []}
    good["system"] |= {
        "python": "3.12.1",
        "shm_mb": 8192,
        "quota": None,
        "cores": 8,
        "file_names": "utf-8",
        "disk_free_mb": 9000,
    }
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


@pytest.mark.parametrize(
    ("change", "level", "what", "fix"),
    [
        ({"packages.numpy": {}}, "error", "numpy is not installed", "pip install numpy"),
        ({"packages.numpy.installed": {"numpy": "1.26.4"}}, "error", "numpy 1.26.4 is older than 2.0", "numpy>=2.0"),
        ({"packages.onnx": {"installed": {"onnx": "1.17.0"}, "broken": "X"}}, "warning", "onnx is broken: X", "reinstall onnx"),
        (
            {"packages.cv2.installed": {"opencv-python-headless": "5.0.0.93", "opencv-python": "4.12.0"}}, "warning",
            "opencv-python-headless 5.0.0.93 and opencv-python 4.12.0 are both installed", "pip uninstall -y opencv-python",
        ),
        (
            {"packages.paddle.installed": {"paddlepaddle": "3.4.0", "paddlepaddle-gpu": "3.4.0"}}, "warning",
            "paddlepaddle 3.4.0 and paddlepaddle-gpu 3.4.0 are both installed", "then install one of them",
        ),
        ({"packages.onnx.installed": {"onnx": "1.19.0"}}, "warning", "does not work with onnx 1.19.0", "'onnx<1.18'"),
        ({"packages.av.no_decoder": ["h264"]}, "error", "no H.264 decoder", "--only-binary :all: av"),
        ({"packages.av.no_encoder": ["libx264"]}, "note", "no x264", "pip install"),
        ({"packages.paddle.works": {"cpu": "bad"}}, "error", "Paddle cannot compute on cpu: bad", "install the build"),
        ({"gpu_driver": "A, 550, 80 GB"}, "warning", "Paddle's build is for CPUs", "paddlepaddle-gpu"),
        ({"packages.paddle": GPU | {"gpus": []}}, "warning", "there is no NVIDIA driver", "--gpus all"),
        ({"packages.paddle": GPU | {"gpus": []}, "gpu_driver": "A"}, "warning", "the driver is too old", "install the driver"),
        (
            {"packages.paddle": GPU | {"gpus": []}, "gpu_driver": "A", "environment": {"CUDA_VISIBLE_DEVICES": ""}}, "warning",
            "CUDA_VISIBLE_DEVICES hides all GPUs", "unset",
        ),
        (
            {"packages.paddle.installed": {"paddlepaddle": "3.3.1"}, "packages.paddle.onednn": True}, "note",
            "Paddle 3.3.1 with oneDNN cannot run exported programs that resize", "--enable_mkldnn False",
        ),
        ({"environment": {"PADDLE_TRAINERS_NUM": "4"}}, "warning", "PADDLE_TRAINERS_NUM=4 is set", "unset it"),
        ({"system.python": "3.10.4"}, "error", "Python 3.10.4 is older than 3.11", "newer"),
        ({"system.shm_mb": 64}, "warning", "/dev/shm has 64 MB", "--shm-size=8g"),
        ({"system.quota": 2.0}, "warning", "may use 2 cores and sees 8", "--cpuset-cpus"),
        ({"system.file_names": "ascii"}, "warning", "file names are in ascii", "C.UTF-8"),
        ({"system.disk_free_mb": 100}, "warning", "100 MB are free here", "make room"),
        ({"paddlevideo.installed": "0.0.1"}, "warning", "another paddlevideo (0.0.1) is installed", "pip uninstall"),
    ],
)  # fmt: skip
def test_each_bad_combination_is_found(healthy, change, level, what, fix):
    for path, value in change.items():
        place = healthy
        *parts, last = path.split(".")
        for part in parts:
            place = place[part]
        place[last] = place[last] | value if isinstance(value, dict) and "cuda" in value else value
    found = find_problems(healthy)
    assert len(found) == 1, found
    assert found[0].level == level and what in found[0].what and fix in found[0].fix
    healthy["problems"] = [problem._asdict() for problem in found]
    assert found[0].what in text(healthy)


def test_a_healthy_gpu_machine_has_no_findings(healthy):
    healthy["packages"]["paddle"] |= GPU | {"installed": {"paddlepaddle-gpu": "3.4.0"}}
    healthy["gpu_driver"] = "A, 550, 80 GB"
    assert find_problems(healthy) == []
    healthy["packages"]["decord"]["installed"] = {"decord2": "0.1.0"}
    assert find_problems(healthy) == []


def test_the_worst_comes_first(healthy):
    (
        healthy["system"]["shm_mb"],
        healthy["packages"]["numpy"],
        healthy["packages"]["av"]["no_encoder"],
    ) = 64, {}, ["libx264"]
    assert [problem.level for problem in find_problems(healthy)] == ["error", "warning", "note"]


def test_backends():
    ready = {"reports": "3", "tensorrt": "10.3.0", "tensorrt_library": None}
    found = doctor.backends({"paddle": ready, "onnxruntime": {"broken": "X"}, "openvino": {}})
    assert found == {
        "paddle": "", "tensorrt": "the TensorRT 10.3.0 library is not installed", "onnxruntime": "X",
        "openvino": "pip install openvino",
    }  # fmt: skip
    assert doctor.backends({"paddle": ready | {"tensorrt_library": "10.3.0"}})["tensorrt"] == ""
    assert (
        doctor.backends({})["tensorrt"]
        == doctor.backends({})["paddle"]
        == "pip install paddlepaddle"
    )


def test_versions_compare():
    assert (
        numbers("3.10.0") > numbers("3.9")
        and numbers("3.3.1.post1") == (3, 3, 1)
        and numbers("2.0rc1") == (2, 0)
    )
    assert numbers("") == () and numbers("unknown") == () and numbers("5.0.0.93") >= numbers("4.10")


def test_quotas_of_containers(tmp_path):
    assert cpu_quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("250000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path) == 2.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cpu_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cpu_quota(tmp_path) == 0.5


# --- the rest of the project -----------------------------------------------------------------------------------------


def test_the_table_agrees_with_setup(root):
    bounds = dict(
        re.findall(r'"([\w-]+)>=([\d.]+)"', (root / "setup.py").read_text(encoding="utf-8"))
    )
    for distributions, oldest in (NEEDED | OPTIONAL).values():
        assert bounds[distributions[0]] == oldest, distributions[0]


def test_bug_reports_begin_with_the_doctor(root):
    form = yaml.safe_load(
        (root / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    )
    first = form["body"][0]
    assert (
        "python tools/doctor.py" in first["attributes"]["description"]
        and first["validations"]["required"]
    )
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
