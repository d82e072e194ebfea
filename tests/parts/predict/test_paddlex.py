"""The API of PaddleX: create_model, its predict, and its result objects."""

import inspect
import json
from pathlib import Path

import av
import numpy as np
import pytest

import paddlevideo
from paddlevideo import cli
from paddlevideo.config.paddlex.sections import MODELS, RUN_MODES
from paddlevideo.config.schema import ConfigError
from paddlevideo.predict import paddlex
from paddlevideo.predict.paddlex import ResultFolder, VideoModel, VideoResult, create_model
from paddlevideo.predict.results import Result
from paddlevideo.runtimes.base import BackendError
from tests.clips import write_clip
from tests.parts.conftest import NAMES
from tests.parts.paddlex_folders import make_folder
from tests.remote_files import memory_files

NAME = "PP-TSM-R50_8frames_uniform"


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    return make_folder(exported, tmp_path_factory.mktemp("paddlex"), topk=2)


@pytest.fixture(scope="module")
def model(folder):
    return paddlevideo.create_model(model_name=NAME, model_dir=str(folder), device="cpu")


def test_signatures_are_those_of_paddlex():
    """As PaddleX's pages document them; `self` is left out."""
    parameters = list(inspect.signature(create_model).parameters)
    assert parameters[:2] == ["model_name", "model_dir"]
    assert {"device", "topk", "use_hpip", "hpi_config", "pp_option"} < set(parameters)
    predict = inspect.signature(paddlex.VideoModel.predict).parameters
    assert list(predict) == ["self", "input", "batch_size", "topk"]
    assert (predict["batch_size"].default, predict["topk"].default) == (1, None)
    for method, names in (
        ("print", ["format_json", "indent", "ensure_ascii"]),
        ("save_to_json", ["save_path", "indent", "ensure_ascii"]),
        ("save_to_video", ["save_path"]),
    ):
        assert (
            list(inspect.signature(getattr(VideoResult, method)).parameters)[1:][: len(names)]
            == names
        )


def test_results_are_those_of_paddlex(exported, model):
    results = list(model.predict(str(exported.videos), batch_size=2))
    assert [result["input_path"] for result in results] == exported.files
    for result, ours in zip(results, model.predictor.predict(exported.videos), strict=True):
        assert list(result) == ["input_path", "class_ids", "scores", "label_names"]
        assert result["class_ids"] == ours.class_ids and len(result["class_ids"]) == 2
        assert result["scores"] == [round(score, 5) for score in ours.scores]
        assert result["label_names"] == [NAMES[k] for k in result["class_ids"]]
        assert result.json == {"res": dict(result)}
        json.dumps(result.json)


def test_topk(exported, model):
    assert [len(r["scores"]) for r in model.predict(exported.files[0], topk=1)] == [1]
    own = VideoModel(model.predictor, topk=3)
    assert [len(r["scores"]) for r in own.predict(exported.files[0])] == [3]
    assert [len(r["scores"]) for r in own(exported.files[0], topk=1)] == [1]


def test_inputs_are_files_folders_lists_and_frames(exported, model):
    frames = np.zeros((5, 80, 90, 3), np.uint8)
    paths = [r["input_path"] for r in model.predict([exported.files[0], str(exported.videos)])]
    assert paths == [exported.files[0], *exported.files]
    assert [r["input_path"] for r in model.predict(frames)] == ["array 0"]


def test_printed_results(exported, model, capsys):
    (result,) = model.predict(exported.files[0])
    result.print()
    assert json.loads(capsys.readouterr().out) == result.json
    result.print(format_json=False)
    assert capsys.readouterr().out == f"{result.json}\n"
    VideoResult(Result("a.mp4", [0], [1.0], ["红\u202e"])).print(indent=2, ensure_ascii=True)
    assert "\\u7ea2\\u202e" in capsys.readouterr().out


def test_files_of_results(exported, model, tmp_path):
    (result,) = model.predict(exported.files[0])
    result.save_to_json(save_path=f"{tmp_path}/")
    result.save_to_video(save_path=f"{tmp_path}/")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_res.json", "a_res.mp4"]
    text = (tmp_path / "a_res.json").read_text(encoding="utf-8")
    assert json.loads(text) == dict(result) and text.startswith('{\n    "input_path"')
    with av.open(str(tmp_path / "a_res.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert len(list(container.decode(video=0))) == 12
    assert result.save_to_json(tmp_path / "x" / "b.json").name == "b.json"
    assert result.save_to_video(tmp_path / "x" / "b.mkv").exists()


def test_the_video_in_memory(exported, model):
    (result,) = model.predict(exported.files[0])
    frames, fps = result.video["res"]
    with av.open(exported.files[0]) as container:
        plain = np.stack([f.to_ndarray(format="bgr24") for f in container.decode(video=0)])
    assert (frames.shape, frames.dtype, fps) == (plain.shape, np.uint8, 25.0)
    assert np.array_equal(frames[:, 30:], plain[:, 30:])
    assert not np.array_equal(frames[:, :20], plain[:, :20])


def test_save_all(exported, model, tmp_path):
    for result in model.predict([exported.files[1], np.zeros((5, 80, 90, 3), np.uint8)]):
        result.save_all(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    stem = exported.files[1].rsplit("/", 1)[1].split(".")[0]
    assert names == sorted(["array 1_res.json", f"{stem}_res.json", f"{stem}_res.mp4"])


def test_a_broken_video_has_an_error(model, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    (result,) = model.predict(str(path))
    assert (result["class_ids"], result["label_names"]) == ([], [])
    assert "no known video format" in result["error"]
    with pytest.raises(ValueError, match=r"broken.mp4: has no result to draw"):
        result.save_to_video(tmp_path)
    result.save_all(tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["broken_res.json"]


def test_frames_in_memory_have_no_video(model, tmp_path):
    (result,) = model.predict(np.zeros((5, 80, 90, 3), np.uint8))
    with pytest.raises(ValueError, match="array 0: not a video file"):
        result.save_to_video(tmp_path)


def test_a_video_at_a_url_is_drawn(exported, model, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setenv("PADDLEVIDEO_HOME", str(tmp_path / "home"))
    with memory_files() as files:
        url = files.put("a.mp4", Path(exported.files[1]).read_bytes())
        (result,) = model.predict([url])
        (local,) = model.predict(exported.files[1])
        assert (result["input_path"], result["scores"]) == (url, local["scores"])
        result.save_all(tmp_path / "out")
        ResultFolder(tmp_path / "out2").write(next(model.predictor.predict(url)))
        files.remove()
        with pytest.raises(ValueError, match=r"no frames to draw on: memory://.*a.mp4"):
            result.save_to_video(tmp_path)
    for name in ("out", "out2"):
        written = sorted(path.name for path in (tmp_path / name).iterdir())
        assert written == ["a_res.json", "a_res.mp4"]


# --- models by name -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_name_finds_the_folder_that_paddlex_downloaded(exported, monkeypatch, tmp_path, name):
    monkeypatch.setenv("PADDLE_PDX_CACHE_HOME", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        create_model(name)
    folder = tmp_path / "official_models" / name
    for part in (name, str(folder), f"unpack PaddleX's {name}_infer.tar", "model_dir"):
        assert part in str(caught.value)
    make_folder(exported, folder)
    assert paddlex.find_model(name, None) == folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("PP-TSM-R50_8frame_uniform", "did you mean 'PP-TSM-R50_8frames_uniform'?"),
        ("pp-tsmv2-lcnetv2_8frames_uniform", "did you mean 'PP-TSMv2-LCNetV2_8frames_uniform'?"),
        ("ResNet50", "no model 'ResNet50' for videos in PaddleX"),
        (None, "give the name of a model, or its folder as model_dir"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        create_model(name)


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(ConfigError, match="no such file or folder"):
        create_model(NAME, tmp_path / "no")


def test_our_own_exports_open_too(exported):
    (result,) = create_model(model_dir=exported.folder, device="cpu").predict(exported.files[0])
    assert result["label_names"][0] in NAMES


# --- options ------------------------------------------------------------------------------------


def options_of(monkeypatch, **arguments) -> dict:
    """The options that create_model gives to the Predictor, and topk."""
    given = {}
    monkeypatch.setattr(paddlex, "Predictor", lambda model, **options: given.update(options))
    monkeypatch.setattr(paddlex, "VideoModel", lambda _, topk: given.update(topk=topk))
    create_model(model_dir="x", **arguments)
    return {key: value for key, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ({}, {}),
        ({"device": "gpu:1"}, {"device": "gpu:1"}),
        ({"topk": 7}, {"topk": 7}),
        ({"use_hpip": True}, {}),
        ({"hpi_config": {"backend": "openvino"}}, {"backend": "openvino"}),
        ({"pp_option": {"run_mode": "mkldnn", "cpu_threads": 2}},
         {"backend": "paddle", "onednn": True, "threads": 2}),
        ({"pp_option": {"run_mode": "trt_fp16"}}, {"backend": "tensorrt", "precision": "fp16"}),
        ({"backend": "onnxruntime"}, {"backend": "onnxruntime"}),
    ],
)  # fmt: skip
def test_options(monkeypatch, arguments, options):
    assert options_of(monkeypatch, **arguments) == options


@pytest.mark.parametrize("mode", RUN_MODES)
def test_every_run_mode_is_known(monkeypatch, mode):
    assert options_of(monkeypatch, pp_option={"run_mode": mode})["backend"] in (
        "paddle",
        "tensorrt",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "npu:0"}, "device 'npu:0' is not supported: models run on cpu, gpu or gpu:0"),
        ({"device": "gpu:0,1"}, "a model runs on one GPU"),
        ({"pp_option": {"run_mode": "trt_int8"}}, "'trt_int8' is not supported"),
        ({"pp_option": {"runmode": "paddle"}}, "no 'runmode' here; did you mean 'run_mode'"),
        ({"hpi_config": {"backend": "openvinno"}}, "did you mean 'openvino'"),
    ],
)
def test_wrong_options(arguments, message):
    with pytest.raises((BackendError, ValueError), match=message):
        create_model(model_dir="x", **arguments)


# --- the command --------------------------------------------------------------------------------


def test_the_command_writes_results_as_paddlex_does(exported, folder, tmp_path, capsys):
    same_name = tmp_path / "videos" / "a.avi"
    write_clip(same_name, 4, codec="mpeg4")
    broken = tmp_path / "videos" / "x.mp4"
    broken.write_bytes(b"no video")
    inputs = [exported.files[0], str(same_name), str(broken)]
    out = tmp_path / "new" / "output"
    words = ["--model", str(folder), "--backend", "paddle", "--save_path", str(out)]
    assert cli.main(["predict", "-i", *inputs, *words]) == 1  # one failed
    assert len(capsys.readouterr().out.splitlines()) >= 3
    assert sorted(path.name for path in out.iterdir()) == [
        *("a_2_res.json", "a_2_res.mp4", "a_res.json", "a_res.mp4", "x_res.json")
    ]
    rows = [json.loads((out / f"{n}_res.json").read_text("utf-8")) for n in ("a", "a_2", "x")]
    assert [row["input_path"] for row in rows] == inputs
    assert len(rows[0]["label_names"]) == 2 and "error" in rows[2]


def test_a_number_does_not_make_the_name_of_another_video(tmp_path):
    given = ["x/a.mp4", "y/a.mp4", "x/a_2.mp4", "z/a.mp4", "y/a_2.mp4"]
    folder = ResultFolder(tmp_path)
    for path in given:
        folder.write(Result(path, error="damaged"))
    found = {p.name: json.loads(p.read_text("utf-8"))["input_path"] for p in tmp_path.iterdir()}
    names = [f"{name}_res.json" for name in ("a", "a_2", "a_2_2", "a_3", "a_2_3")]
    assert found == dict(zip(names, given, strict=True))


def test_the_command_may_be_quiet_with_a_folder(exported, folder, tmp_path, capsys):
    words = ["--model", str(folder), "--quiet", "--save_path", str(tmp_path / "out")]
    assert cli.main(["predict", "-i", exported.files[0], *words]) == 0
    assert (tmp_path / "out" / "a_res.json").exists()
    (tmp_path / "file").write_text("")
    words[-1] = str(tmp_path / "file")
    assert cli.main(["predict", "-i", exported.files[0], *words]) == 1
    assert "file" in capsys.readouterr().err
