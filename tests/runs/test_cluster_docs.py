"""The commands of docs/cluster.md, run on two nodes on the loopback."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.rules.pages import ROOT, blocks
from tests.runs.nodes import free_port, words_of_node

LIMIT = 280  # seconds; a run that takes longer hangs
PAGE = "docs/cluster.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")


def block(mark: str) -> str:
    """The fenced block after the comment `<!-- mark -->`."""
    return re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", TEXT, re.S)[1]


def loop() -> str:
    """The loop that restarts a launcher."""
    return next(b.code for b in blocks(PAGE, TEXT) if b.code.startswith("train() {"))


def job() -> dict:
    """The job of the Kubernetes file."""
    return list(yaml.safe_load_all(block("kubernetes")))[1]


def container_script() -> str:
    (container,) = job()["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["bash", "-c"]
    return container["args"][0]


def launcher_flags(text: str) -> list[str]:
    """The names of the flags of the launcher in a script."""
    text = re.sub(r"\\\n\s*", " ", text)
    words = re.search(r"python -B -m paddle\.distributed\.launch (.*?) main\.py", text, re.S)[1]
    return [word.partition("=")[0] for word in shlex.split(words)]


# --- without a run --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [loop(), block("slurm"), container_script()])
def test_the_scripts_are_valid_and_use_the_tested_flags(text):
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    tested = {w.partition("=")[0] for w in words_of_node(0, 2, 1, Path("x"), 1) if w[:2] == "--"}
    flags = launcher_flags(text)
    assert {"--master", "--nnodes", "--rank", "--nproc_per_node"} <= set(flags) <= tested
    assert "main.py --validate -c CFG --resume" in text, "a restart is a resume"


def test_the_job_of_kubernetes_restarts_its_ranks():
    service, found = yaml.safe_load_all(block("kubernetes"))
    spec = found["spec"]
    pod = spec["template"]["spec"]
    name = found["metadata"]["name"]
    assert (
        service["metadata"]["name"] == pod["subdomain"] and service["spec"]["clusterIP"] == "None"
    )
    assert service["spec"]["selector"] == {"job-name": name}
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"] == 2
    assert f"--nnodes={spec['completions']}" in container_script()
    assert f"{name}-0.{pod['subdomain']}" in container_script(), "the address of node 0"
    assert pod["restartPolicy"] == "OnFailure"
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == volumes


def test_the_slurm_script_asks_for_what_it_uses():
    text = block("slurm")
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.M))
    assert text.startswith("#!/bin/bash\n")
    assert options["nodes"] == "2" and options["ntasks-per-node"] == "1" and "requeue" in options
    assert '--nnodes="$SLURM_NNODES"' in text and '--rank="$SLURM_NODEID"' in text


# --- run ------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path):
    """A folder with the programs of a cluster, for a cluster that is this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    texts = {
        "scontrol": "echo node0; echo node1",
        "getent": 'echo "127.0.0.1       STREAM node0"',
        "srun": (
            "shift\nfor SLURM_NODEID in 0 1; do\n"
            '  export SLURM_NODEID; "$@" & all="$all $!"\ndone\n'
            "code=0; for one in $all; do wait $one || code=1; done; exit $code"
        ),
        "python": f'exec {shlex.quote(sys.executable)} "$@"',
    }
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


def ready(text: str, config: str, port: int) -> str:
    """A script of the page for this machine."""
    text = text.replace("CFG", f"{config} -o DATASET.batch_size=2 -o epochs=1")
    return text.replace("10.0.0.1", "127.0.0.1").replace("38411", str(port))


def run(scripts: list[str], programs: Path, folder: Path, each: list[dict]) -> None:
    """Run a script per node; all must succeed, and the training must be complete."""
    started = []
    work = folder / "work"
    work.mkdir()
    for name in ("main.py", "paddlevideo"):
        (work / name).symlink_to(ROOT / name)
    for number, script in enumerate(scripts):
        env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        with (folder / f"console{number}.txt").open("wb") as console:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=work,
                env={**env, "PYTHONDONTWRITEBYTECODE": "1", **each[number]},
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        started.append(process)
    codes = [process.wait(LIMIT) for process in started]
    texts = [(folder / f"console{i}.txt").read_text()[-3000:] for i in range(len(scripts))]
    assert codes == [0] * len(scripts), "\n".join(texts)
    log = (folder / "out" / "log.txt").read_text()
    assert log.count("training ppTSN finished") == 1 and "rank 0 of 2" in log
    rows = (folder / "out" / "metrics.jsonl").read_text().splitlines()
    assert any(json.loads(row)["split"] == "valid" for row in rows)


@pytest.mark.slow
def test_the_loop_runs_on_two_nodes(programs, tmp_path, small):
    text = ready(loop(), small().origin.path, free_port())
    scripts = [text, text.replace("--rank=0", "--rank=1")]
    each = [{"PADDLE_LOG_DIR": str(tmp_path / f"log{i}")} for i in range(2)]
    run(scripts, programs, tmp_path, each)


@pytest.mark.slow
def test_the_slurm_script_runs_on_two_nodes(programs, tmp_path, small):
    script = ready(block("slurm"), small().origin.path, free_port())
    names = {"SLURM_JOB_NODELIST": "node[0-1]", "SLURM_NNODES": "2"}
    run([script], programs, tmp_path, [names])


@pytest.mark.slow
def test_the_command_of_the_kubernetes_job_runs_on_two_nodes(programs, tmp_path, small):
    script = ready(container_script(), small().origin.path, free_port())
    each = [{"JOB_COMPLETION_INDEX": str(i)} for i in range(2)]
    run([script] * 2, programs, tmp_path, each)


@pytest.mark.slow
def test_the_first_command_runs_on_two_nodes(programs, tmp_path, small):
    code = next(b.code for b in blocks(PAGE, TEXT) if b.code.startswith("# node 0"))
    text = ready(code, small().origin.path, free_port())
    other = text.replace("--rank=0", "--rank=1").replace("--log_dir=log", "--log_dir=log1")
    run([text, other], programs, tmp_path, [{}, {}])
