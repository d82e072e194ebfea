"""What a checkpoint holds besides its tensors: class names and the progress of the run."""

import json

import numpy as np
import paddle
import pytest

from paddlevideo import dist
from paddlevideo.api import train
from paddlevideo.engine.build import load_config
from paddlevideo.engine.checkpoint import CLASS_NAMES, TrainState, read_model
from paddlevideo.solver import ema
from paddlevideo.weights import WeightsError, read_arrays, write_arrays
from tests.conftest import small_config


def stored(value) -> np.ndarray:
    """JSON as the bytes in a checkpoint."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return np.frombuffer(text, np.uint8)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (stored(b"[1, 2"), "is not JSON"),
        (stored(b"\xff\xfe"), "is not JSON"),
        (stored(b"[" * 100_000), "is not JSON"),
        (stored(b""), "is not JSON"),
        (stored({"a": 1}), "is not a list of names"),
        (stored(["a", 1]), "is not a list of names"),
        (stored("ab"), "is not a list of names"),
        (np.array([1.5, 2.5]), r"is float64 \[2\], expected bytes of JSON"),
        (np.array(7, np.uint8), r"is uint8 \[\], expected bytes of JSON"),
    ],
)
@pytest.mark.parametrize("suffix", [".pdparams", ".pdstate"])
def test_rejects_odd_class_names(tmp_path, names, message, suffix):
    path, prefix = tmp_path / f"w{suffix}", "model/" if suffix == ".pdstate" else ""
    write_arrays(path, {f"{prefix}w": np.ones(2), f"{prefix}{CLASS_NAMES}": names})
    with pytest.raises(WeightsError, match=rf"w{suffix}: {CLASS_NAMES} {message}"):
        read_model(path)


def test_reads_class_names(tmp_path):
    names = ["a", "", "跳", "a b"]
    write_arrays(tmp_path / "w.pdparams", {"w": np.ones(2), CLASS_NAMES: stored(names)})
    assert read_model(tmp_path / "w.pdparams")[1] == names


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e29])
def test_rejects_values_that_no_training_gives(tmp_path, value):
    paddle.save({"w": paddle.to_tensor([0.0, value])}, str(tmp_path / "w.pdparams"))
    with pytest.raises(WeightsError, match=r"w.pdparams: 1 tensors .* w is .* at \[1\]"):
        read_model(tmp_path / "w.pdparams")


@pytest.fixture(scope="module")
def finished(clips, tmp_path_factory):
    cfg = load_config(small_config(clips, tmp_path_factory.mktemp("run")), ["epochs=1"])
    train(cfg, validate=False)
    return cfg


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer/progress@@", stored(b"{"), "progress@@ is not JSON"),
        ("optimizer/progress@@", stored([1]), "progress@@ is not the progress of a run"),
        ("optimizer/progress@@", stored({"epoch": 1}), "progress@@ is not the progress of a run"),
        (
            "optimizer/progress@@",
            stored({"scaler": {}, "fingerprint": "", "other": 1}),
            "progress@@ is not the progress of a run",
        ),
        ("optimizer/progress@@", np.ones(3), "progress@@ is float64"),
        ("model/head.fc.bias", np.full(3, np.nan, np.float32), "model/head.fc.bias is nan"),
        ("optimizer/head.fc.bias.velocity", np.full(3, np.inf, np.float32), "velocity is inf"),
    ],
)
def test_rejects_a_damaged_state(finished, tmp_path, name, value, message):
    arrays = read_arrays(f"{finished.folder}/ppTSN_latest.pdstate")
    write_arrays(tmp_path / "damaged.pdstate", {**arrays, name: value})
    with pytest.raises(WeightsError, match=message):
        train(finished, validate=False, resume=str(tmp_path / "damaged.pdstate"))


# --- averaged weights -----------------------------------------------------------------------------


class Normed(paddle.nn.Sequential):
    """A model with running statistics, as far as writing it goes."""

    frozen_prefixes = ()
    architecture = ""

    def __init__(self):
        super().__init__(paddle.nn.Linear(2, 2), paddle.nn.BatchNorm1D(2))

    @property
    def evaluated(self):
        return self


def state_of(average: bool) -> TrainState:
    model = Normed()
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
    scaler = paddle.amp.GradScaler(enable=False)
    start = ema.start(model) if average else None
    return TrainState(model, optimizer, scaler, average=start)  # pyright: ignore


@pytest.fixture
def on_two_ranks(monkeypatch):
    """`on_two_ranks(rank)`: this process is that rank; a gather gives its own value twice."""

    def be(rank):
        monkeypatch.setattr(dist, "rank", lambda: rank)
        monkeypatch.setattr(dist, "world_size", lambda: 2)
        monkeypatch.setattr(dist, "gather", lambda value: [value, value])

    return be


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_goes_on_without_its_average_on_every_rank(tmp_path, on_two_ranks, rank, caplog):
    path = tmp_path / "x_latest.pdstate"
    on_two_ranks(0)
    state_of(average=True).save(path)
    on_two_ranks(rank)
    state = state_of(average=False)
    state.restore(path)
    assert state.average is None
    assert (
        "x_latest.pdstate: its averaged weights are dropped: the config has no EMA" in caplog.text
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_each_rank_gets_its_own_part_of_the_average(tmp_path, on_two_ranks, rank):
    path, name = tmp_path / "x_latest.pdstate", "1._mean"
    on_two_ranks(0)
    state_of(average=True).save(path)
    arrays = read_arrays(path)
    arrays[f"rank1/ema/{name}"] = np.full(2, 7, np.float32)
    write_arrays(path, arrays)
    on_two_ranks(rank)
    state = state_of(average=True)
    state.restore(path)
    assert state.average is not None
    assert state.average[name].tolist() == ([0, 0] if rank == 0 else [7, 7])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: {}, "saved by a run without EMA; remove EMA, or start a new run"),
        (lambda arrays: dict([*arrays.items()][1:]), "the saved average is of another model: 0.w"),
    ],
    ids=["none", "a part"],
)
def test_names_the_state_that_lacks_an_average(tmp_path, change, message):
    path = tmp_path / "x_latest.pdstate"
    state_of(average=True).save(path)
    arrays = read_arrays(path)
    average = {name: arrays.pop(name) for name in list(arrays) if name.startswith("ema/")}
    write_arrays(path, arrays | change(average))
    with pytest.raises(WeightsError, match=f"x_latest.pdstate: {message}"):
        state_of(average=True).restore(path)
