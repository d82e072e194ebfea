"""The benchmarks run on tiny sizes and print ratios; the tests do not check speeds."""

import json
import re
import sys
from decimal import Decimal

import pytest

from paddlevideo.benchmarks import predict, train, views
from paddlevideo.benchmarks.clips import records_of
from paddlevideo.benchmarks.measure import Child, Group, Row, Variant, measure
from paddlevideo.cores import num_cores
from paddlevideo.engine.build import build_model, build_pipeline, load_config
from paddlevideo.exporting.export import export
from paddlevideo.predict.predictor import Predictor
from paddlevideo.runtimes.choose import open_backend
from paddlevideo.runtimes.manifest import read_manifest
from paddlevideo.runtimes.measured import read_rows
from paddlevideo.weights import state_arrays, write_arrays
from tests.scripts import ROOT, load_script

TOOL = "tools/benchmark.py"


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    for module in ("measure", "inference"):
        monkeypatch.setattr(f"paddlevideo.benchmarks.{module}.PAUSE", 0.0)


@pytest.fixture
def benchmark(small, tmp_path, monkeypatch, capsys):
    """`benchmark(verb, *flags)` -> (exit code, printed text, groups of the JSON file)."""
    tool = load_script(monkeypatch, TOOL)
    config = small().origin.path

    def call(verb, *flags):
        out = tmp_path / "times.json"
        arguments = [verb, "-c", config, "-b", "2", "-r", "2", "--json", str(out), *flags]
        monkeypatch.setattr("sys.argv", [TOOL, *arguments])
        code = tool.main()
        printed = capsys.readouterr()
        groups = json.loads(out.read_text())["groups"] if out.exists() else []
        return code, printed.out + printed.err, groups

    return call


def names(group):
    return [row["name"] for row in group["rows"]]


def test_loader_compares_decoders_and_workers(benchmark):
    videos = ["--clips", "2", "--frames", "12", "--size", "64", "48", "--gop", "6"]
    code, printed, groups = benchmark("loader", *videos, "--workers", "0", "1", "-r", "1")
    assert code == 0, printed
    assert [g["unit"] for g in groups] == ["clip", "video", "clip"]
    for group in groups[:2]:
        assert names(group)[:2] == ["pyav, 0 workers", "pyav, 1 workers"]
        assert "cv2, 1 workers" in names(group)
    assert {"pyav, all frames", "pyav, wanted frames"} <= set(names(groups[2]))
    assert all(len(row["seconds"]) == 1 and row["ratio"] > 0 for g in groups for row in g["rows"])
    assert "ratio" in printed and "1.00 - 1.00" in printed


def test_loader_reads_given_videos_and_names_one_that_fails(benchmark, clips, tmp_path):
    flags = ["--workers", "0", "-r", "1"]
    code, printed, groups = benchmark("loader", "--videos", str(clips / "val"), *flags)
    assert code == 0, printed
    assert groups[0]["count"] == 18  # 6 videos, each three times

    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "text.mp4").write_text("no video")
    code, printed, _ = benchmark("loader", "--videos", str(folder), *flags)
    assert code == 1
    assert "text.mp4" in printed and "take it out" in printed

    (folder / "text.mp4").unlink()
    code, printed, _ = benchmark("loader", "--videos", str(folder))
    assert code == 1 and "no video in this folder" in printed


def test_data_compares_variants_with_equal_results(benchmark):
    code, printed, groups = benchmark("data")
    assert code == 0, printed
    variants = ["NumPy arithmetic", "table look-up", "paddle tensors"]
    assert [names(g) for g in groups] == [variants] * 2


@pytest.mark.slow
def test_train_compares_setups_with_equal_losses(benchmark, monkeypatch):
    setups = [
        train.Setup("eager", 1, onednn=False),
        train.Setup("static", 1, static=True),
        train.Setup("onednn", 1),
    ]
    monkeypatch.setattr(train, "setups", lambda cores, cpuinfo: setups)
    code, printed, groups = benchmark(
        "train", "-r", "1", "-o", "MIX=null", "-o", "MODEL.head.num_classes=3"
    )
    assert code == 0, printed
    assert [g["unit"] for g in groups] == ["product", "clip", "clip"]
    eager, static, onednn = (float(row["note"].split("gives ")[1]) for row in groups[1]["rows"])
    assert eager == pytest.approx(static, rel=1e-4)
    # Batch norm over few pixels amplifies rounding.
    assert eager == pytest.approx(onednn, rel=1e-2)
    assert all("GFLOP/s" in row["note"] for g in groups for row in g["rows"])
    assert all("% of the product" in row["note"] for g in groups[1:] for row in g["rows"])


def test_metrics_compares_variants_with_equal_results(benchmark):
    code, printed, groups = benchmark("metrics", "--videos", "300", "--classes", "50")
    assert code == 0, printed
    (group,) = groups
    assert names(group) == ["a video at a time", "MultiLabelMetric"] and group["count"] == 300
    assert group["rows"][0]["note"].split("gap ")[1] == group["rows"][1]["note"].split("gap ")[1]


FAST = ["-r", "1", "--threads", "1", "--precision", "fp32"]


@pytest.mark.slow
def test_inference_compares_backends_with_the_exported_logits(benchmark):
    code, printed, groups = benchmark(
        "inference", *FAST, "--no-memory", "-o", "MODEL.head.num_classes=3"
    )
    assert code == 0, printed
    product, group, auto = groups
    assert names(group)[:2] == ["paddle", "paddle, 2 clips"] and names(auto)[-1] == "auto"
    assert names(group)[-2:] == ["eager, no oneDNN", "eager, no oneDNN, 2 clips"]
    assert {"paddle, no oneDNN", "paddle .json", "eager"} <= set(names(group))
    assert all(float(row["note"].rsplit(" ", 1)[1]) < 1e-4 for row in group["rows"])
    assert all("GFLOP/s" in row["note"] for row in (*product["rows"], *group["rows"]))
    assert all("% of the product" in row["note"] for row in group["rows"])
    assert "stored in" not in printed


@pytest.mark.slow
def test_inference_stores_the_fastest_for_auto(benchmark, small, tmp_path):
    cfg = small()
    weights, folder = tmp_path / "w.pdparams", tmp_path / "out"
    write_arrays(weights, state_arrays(build_model(cfg, 3)))
    export(cfg, weights, folder, ["pir"])
    flags = [*FAST, "-m", str(folder), "--clips", "3", "--device", "cpu"]
    code, printed, groups = benchmark("inference", *flags)
    assert code == 0, printed
    group = groups[1]
    assert names(group) == ["paddle .json, 3 clips", "paddle .json, no oneDNN, 3 clips"]
    for row in group["rows"]:
        assert re.match(r"p50 [\d.]+ p95 [\d.]+ ms a run, \d+ MB, \d+ GFLOP/s, ", row["note"])
    rows = read_rows(folder, read_manifest(folder))
    assert len(rows) == len(group["rows"]) and {row.clips for row in rows} == {3}
    assert f"the fastest in fp32: {rows[0].kind} with" in printed
    backend = open_backend(folder, device="cpu")
    assert (backend.kind, backend.clips_per_run) == (rows[0].kind, 3)


def test_views_compares_variants_with_equal_views(tmp_path):
    config = str(ROOT / "configs/recognition/slowfast/slowfast.yaml")
    small = [
        "PIPELINE.test.decode_sampler.num_frames=4",
        "PIPELINE.test.decode_sampler.num_ensemble_views=3",
        "PIPELINE.test.transform.0.JitterScale={min_size: 36, max_size: 36}",
        "PIPELINE.test.transform.1.MultiCrop.target_size=32",
    ]
    records = records_of(None, tmp_path, 2, (64, 48), 16, 8)[:2]
    (group,) = views.run(config, small, records, rounds=1)
    assert "9 views" in group.title
    assert [row.name for row in group.rows] == ["a decode for each view", "each video once"]
    single = views.single_views(build_pipeline(load_config(config, small), "test"))
    clips_and_crops = [(one.sample.number, one.worker_transforms[1].number) for one in single]
    assert clips_and_crops == [(clip, crop) for clip in range(3) for crop in range(3)]
    one_view = [
        "PIPELINE.test.decode_sampler.num_ensemble_views=1",
        "PIPELINE.test.transform.1.MultiCrop.num_spatial_crops=1",
    ]
    with pytest.raises(ValueError, match="one view"):
        next(views.run(config, one_view, records, rounds=1))


def test_inference_needs_an_exported_folder(benchmark, tmp_path):
    code, printed, _ = benchmark("inference", "--model", str(tmp_path))
    assert code == 1 and "golden.npz" in printed


def test_predict_compares_with_what_it_overlaps(small, clips):
    """A built model in place of an export, which takes long to write."""
    cfg = small()
    predictor = Predictor(build_model(cfg, 3), cfg, device="cpu", threads=1)
    paths = sorted(map(str, (clips / "test").rglob("*.mp4")))
    group = predict.run(predictor, paths, None, 1, rounds=1)
    assert group.count == 7 and "1 video(s) together, 1 decode workers" in group.title
    rows = {row.name: row for row in group.rows}
    assert list(rows) == ["predict", "one after the other", "decode alone", "network alone"]
    assert all("cores busy" in row.note for row in group.rows)
    ratio = float(rows["predict"].note.split("; ")[1].split(" times the slower")[0])
    slower = max(rows[name].median for name in ("decode alone", "network alone"))
    assert ratio == pytest.approx(rows["predict"].median / slower, abs=0.01)
    empty = clips.parent / "empty.mp4"
    with pytest.raises(ValueError, match="no such file; take it out of the folder"):
        predict.run(predictor, [*paths, str(empty)], None, 1, rounds=1)


def test_predict_divides_by_the_work_of_shared_cores():
    seconds = {"predict": 6.0, "decode alone": 4.0, "network alone": 5.0}
    rows = [Row.of(name, [s], [6.0], 1, "") for name, s in seconds.items()]
    work = {"predict": 9.0, "decode alone": 4.0 * num_cores(), "network alone": 1.0 * num_cores()}
    noted = predict.with_notes(Group("t", "video", 1, rows), work).rows
    assert "; 1.20 times the slower one alone" in noted[0].note
    assert "spread over all cores" not in noted[0].note, "the work is no more than the slower one"
    work["network alone"] = 2.0 * num_cores()
    noted = predict.with_notes(Group("t", "video", 1, rows), work).rows
    assert noted[0].note.endswith("; 1.00 times the work of both spread over all cores")


def test_predict_needs_a_model(benchmark, tmp_path):
    videos = ["--clips", "1", "--frames", "4", "--size", "32", "32"]
    code, printed, _ = benchmark("predict", "--model", str(tmp_path / "none"), *videos)
    assert code == 1 and "there is no such file or folder; export the model first" in printed


# --- measuring ------------------------------------------------------------------------------------


def test_ratios_compare_times_of_the_same_round():
    times = {"base": iter([9.0, 1.0, 2.0, 4.0]), "twice": iter([9.0, 0.5, 1.0, 1.0])}
    order = []

    def one(name):
        def seconds():
            order.append(name)
            return next(times[name])

        return Variant(name, seconds, lambda median: f"median {median}")

    group = measure("title", "clip", 8, [one("base"), one("twice")], rounds=3)
    base, twice = group.rows
    assert order == ["base", "twice", "base", "twice", "twice", "base", "base", "twice"]
    assert base.seconds == [1.0, 2.0, 4.0], "the first call does not count"
    assert base.ratio == 1
    assert (twice.ratio, twice.lowest, twice.highest) == (2.0, 2.0, 4.0)
    assert twice.rate == 8.0 and twice.note == "median 1.0"
    assert group.text().splitlines()[0] == "title (3 rounds)"
    with pytest.raises(ValueError, match="0 rounds"):
        measure("title", "clip", 8, [one("base")], rounds=0)


def test_counts_the_operations_of_a_small_network():
    import numpy as np
    from paddle import nn

    class Net(nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2D(4, 6, 3, groups=2, padding=1), nn.Linear(6, 5)

        def forward(self, inputs):
            return self.fc(self.conv(inputs["frames"]).mean([2, 3]))

    frames = np.zeros((2, 4, 7, 8), np.float32)
    assert train.multiplications(Net(), {"frames": frames}) == 2 * (6 * 7 * 8 * 2 * 9 + 6 * 5)


def test_setups_depend_on_the_processor():
    amd = "vendor_id : AuthenticAMD\nflags : fpu avx avx2\n"
    first = ["1 thread", "2 threads", "2 threads, no oneDNN", "2 threads, to_static"]
    mkl = ["2 threads, MKL by maker", "2 threads, MKL AVX2"]
    assert [setup.name for setup in train.setups(2, amd)] == [*first, *mkl]
    intel = train.setups(1, amd.replace("AuthenticAMD", "GenuineIntel"))
    expected = ["1 thread", "1 thread, no oneDNN", "1 thread, to_static"]
    assert [setup.name for setup in intel] == expected
    wide = amd.replace("avx2", "avx2 avx512f avx512cd avx512bw avx512dq avx512vl")
    assert train.setups(2, wide)[-1].environment == {"MKL_DEBUG_CPU_TYPE": "7"}


def test_reports_the_error_of_a_child():
    child = Child(Decimal, ("failed with 3",), {})  # no text for a number
    with pytest.raises(ChildProcessError, match="ConversionSyntax"):
        child("step")
    child.close()
    child._process.join(60)
    assert child._process.exitcode is not None, "the process has ended"


def test_records_compares_readers_with_equal_results(benchmark):
    code, printed, groups = benchmark("records", "--videos", "6", "--workers", "0", "1")
    assert code == 0, printed
    assert [(g["count"], g["unit"]) for g in groups] == [(6, "video")] * 2
    assert {"generic parser", "this reader", "this reader, no CRC"} <= set(names(groups[0]))
    assert names(groups[1]) == ["0 workers", "1 workers"]
    assert all("a second by the clock" in row["note"] for row in groups[0]["rows"])
    code, printed, _ = benchmark("records", "--videos", "2", "--tf_python", sys.executable)
    assert code == 1 and "does it have TensorFlow?" in printed
