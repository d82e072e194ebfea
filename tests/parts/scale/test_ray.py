"""Ray itself: started here, at an address, from outside of the cluster (ray://)."""

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from paddlevideo.commands.resize_videos import main
from paddlevideo.scale.simulation import line_of, synthetic_items
from tests.clips import random_frames, write_clip
from tests.ray_clusters import driver, started
from tests.runs.feature_sets import make_recipe

SECONDS = 600


@pytest.fixture(scope="module")
def videos(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(5):
        # x264 writes the same bytes each time only for sizes that are multiples of 16.
        frames = random_frames(6, 64, 96, seed=number)
        write_clip(folder / f"{number}.mp4", frames=frames, height=64, width=96)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def need_ray() -> None:
    """Skip without Ray; its import would change this process."""
    if not importlib.util.find_spec("ray"):
        pytest.skip("no package ray")


def finish(tmp_path: Path, *words: str) -> tuple[int, str]:
    """(exit code, what was printed) of a command in a process of its own."""
    output = tmp_path / "printed.txt"
    output.unlink(missing_ok=True)
    process = driver(*words, output=output)
    try:
        return process.wait(SECONDS), output.read_text(errors="replace")
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_is_started_and_stopped(videos, tmp_path, monkeypatch):
    psutil = pytest.importorskip("psutil")
    need_ray()
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_TMPDIR", tempfile.gettempdir())
    words = ["data", "resize", str(videos), "--short_side", "32"]
    assert finish(tmp_path, *words, str(tmp_path / "a"), "--num_workers", "1")[0] == 1
    before = {process.pid for process in psutil.process_iter()}
    code, printed = finish(tmp_path, *words, str(tmp_path / "b"), "--on", "ray")
    assert code == 1, printed
    assert "starting Ray on this machine" in printed and "5 made, 0 kept, 1 failed" in printed
    trees = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"
    ]
    assert trees[0] == trees[1] and len(trees[0]) == 7
    new = [process for process in psutil.process_iter() if process.pid not in before]
    assert not [p for p in new if p.name() in ("raylet", "gcs_server")]
    assert "(raylet)" not in printed and "Traceback" not in printed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_predict_at_an_address_and_from_outside(exported, videos, tmp_path):
    """The workers start in another folder, and have the package only from the driver."""
    words = ["predict", "--model", str(exported.folder), "-i", str(videos), "--quiet", "-b", "1"]
    here = tmp_path / "here.jsonl"
    assert finish(tmp_path, *words, "--cpu_threads", "1", "--out", str(here))[0] == 1
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as sockets,
        started(Path(sockets), 2, 1) as cluster,
    ):
        for number, address in enumerate(filter(None, (cluster.address, cluster.client))):
            out = tmp_path / f"{number}.jsonl"
            code, printed = finish(tmp_path, *words, "--on", address, "--out", str(out))
            assert code == 1, printed
            assert "2 nodes" in printed or "1 node with" in printed
            assert out.read_bytes() == here.read_bytes()
        code, printed = finish(
            tmp_path,
            *words,
            *("--on", cluster.address, "--num_cpus", "4", "--out", str(tmp_path / "c.jsonl")),
        )
        assert code == 1 and "no node has that" in printed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_frame_features(videos, clips, tmp_path, monkeypatch):
    """The shards and the list of failures have the bytes of a local run."""
    need_ray()
    monkeypatch.setenv("RAY_ADDRESS", "local")
    recipe = make_recipe(clips, tmp_path, 8)
    words = ["extract", "-i", str(videos), "-c", str(recipe.config), "-w", str(recipe.weights)]
    words += ["--frame_rate", "10", "--per_shard", "2", "--no_audio"]
    trees = []
    for flags in (("--num_workers", "0"), ("--on", "ray", "--num_cpus", "0.5")):
        out = tmp_path / "out"
        code, printed = finish(tmp_path, *words, "-o", str(out), *flags)
        assert code == 1, printed
        trees.append({path.name: path.read_bytes() for path in out.iterdir() if path.is_file()})
        shutil.rmtree(out)
    assert trees[0] == trees[1] and b"broken.mp4" in trees[0]["failures.tsv"]
    assert len([name for name in trees[0] if name.endswith(".tfrecord")]) == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_decoder_that_ends_its_process_is_a_row(tmp_path, monkeypatch):
    """kill -9 by the item itself: the others have their results."""
    code = (
        "import signal; from paddlevideo.scale.cluster import connected;"
        "from paddlevideo.scale.flags import Place;"
        "from paddlevideo.scale.run_each import RunOnCluster\n"
        "with connected('ray') as cluster:\n"
        "    run = RunOnCluster(cluster, Place('ray'))\n"
        "    found = dict(run(signal.raise_signal, [18] * 3 + [9] + [18] * 3, label='files'))\n"
        "print(sorted(found) == list(range(7)), [i for i in found if found[i] is not None])"
    )
    need_ray()
    monkeypatch.setenv("RAY_ADDRESS", "local")
    script = tmp_path / "job.py"
    script.write_text(code)
    output = tmp_path / "printed.txt"
    process = driver(output=output, script=script)
    try:
        assert process.wait(SECONDS) == 0, output.read_text()
    finally:
        process.kill()
        process.wait()
    assert "True [3]" in output.read_text()


def test_without_ray_the_message_names_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    write_clip(tmp_path / "in" / "a.mp4", 4)
    words = [str(tmp_path / "in"), str(tmp_path / "out"), "--short_side", "32"]
    assert main([*words, "--on", "ray"]) == 2
    assert "pip install 'paddlevideo[ray]'" in capsys.readouterr().err
    assert main(words) == 0  # local work needs no Ray


def test_local_work_imports_nothing_of_ray(tmp_path):
    write_clip(tmp_path / "in" / "a.mp4", 4)
    script = tmp_path / "job.py"
    script.write_text(
        "import sys; from paddlevideo.cli import main\n"
        f"code = main(['data', 'resize', {str(tmp_path / 'in')!r}, {str(tmp_path / 'out')!r},"
        " '--short_side', '32', '--num_workers', '1'])\n"
        "loaded = [name for name in ('ray', 'pyarrow') if name in sys.modules]\n"
        "print(code, loaded)"
    )
    output = tmp_path / "printed.txt"
    assert driver(output=output, script=script).wait(60) == 0
    assert output.read_text().splitlines()[-1] == "0 []"


def test_synthetic_results_depend_on_the_item_alone():
    lines = [line_of(item) for item in synthetic_items(3000)]
    assert lines == [line_of(item) for item in synthetic_items(3000)]
    assert len(set(lines)) == 3000 and any('"error"' in line for line in lines)
