"""The Paddle internals that the package uses exist and mean what the package assumes."""

import ast
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
import pytest
import threadpoolctl
from paddle import ParamAttr, nn
from paddle.pir_utils import OldIrGuard
from paddle.regularizer import L2Decay

from paddlevideo import dist, paddle_internals
from tests.gpu_build import GpuBuild

FILE = "paddlevideo/paddle_internals.py"
NORMS = {
    "BatchNorm": lambda: nn.BatchNorm(3),
    "BatchNorm1D": lambda: nn.BatchNorm1D(3, data_format="NCL"),
    "BatchNorm2D": lambda: nn.BatchNorm2D(3),
    "BatchNorm3D": lambda: nn.BatchNorm3D(3),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(3),
}
# Files that may name Paddle's private attributes: on `self` in a subclass of a Paddle layer.
SUBCLASS_FILES = {"models/layers.py", "models/vlad.py"}
# The doctor examines a Paddle that may be broken, and imports it piece by piece.
MAY_NAME_PADDLE_BASE = {"paddle_internals.py", "report/doctor_probes.py"}


@contextmanager
def internal(name: str, file: str = FILE) -> Iterator[None]:
    """Turn a failure inside into one that says what to fix."""
    try:
        yield
    except Exception as error:
        pytest.fail(
            f"Paddle {paddle.__version__}: '{name}' vanished or changed its meaning "
            f"({type(error).__name__}: {error}); fix {file}",
            pytrace=False,
        )


def clips(shape=(4, 3, 2, 2, 2)):
    return paddle.to_tensor(np.random.default_rng(0).normal(2, 3, shape).astype("float32"))


def input_of(norm):
    dims = {"BatchNorm1D": (4, 3, 2), "BatchNorm3D": (4, 3, 2, 2, 2)}
    return clips(dims.get(type(norm).__name__, (4, 3, 2, 2)))


def one_momentum_step(model, multi_precision=False):
    optimizer = paddle.optimizer.Momentum(
        0.1, 0.9, parameters=model.parameters(), multi_precision=multi_precision
    )
    model(paddle.ones([2, 4], model.weight.dtype)).sum().backward()
    optimizer.step()
    return optimizer


def test_a_failure_names_the_version_and_the_file():
    with (
        pytest.raises(pytest.fail.Exception) as caught,
        internal("_old_name", "paddlevideo/models/layers.py"),
    ):
        _ = nn.Linear(1, 1)._old_name
    message = str(caught.value)
    assert f"Paddle {paddle.__version__}: '_old_name' vanished" in message
    assert message.endswith("fix paddlevideo/models/layers.py")


def test_set_num_threads():
    with internal("paddle.base.core.set_num_threads"):
        try:
            paddle_internals.set_num_threads(1)
        finally:
            dist.use_threads()  # as tests/conftest.py does


def test_keep_num_threads():
    openmp = threadpoolctl.ThreadpoolController().select(prefix="libiomp")

    def numbers():
        return [info["num_threads"] for info in openmp.info()]

    before = numbers()
    with paddle_internals.keep_num_threads(3):
        assert set(numbers()) <= {3}
    assert numbers() == before


# --- optimizers -------------------------------------------------------------------------------


def test_trainable_parameters():
    layer = nn.Linear(4, 3)
    layer.bias.stop_gradient = True
    with internal("Optimizer._parameter_list"):
        optimizer = paddle.optimizer.SGD(0.1, parameters=layer.parameters())
        names = [p.name for p in paddle_internals.trainable_parameters(optimizer)]
        assert names == [layer.weight.name]


def test_accumulators_are_created_before_the_first_step():
    layer = nn.Linear(4, 3)
    optimizer = paddle.optimizer.Momentum(0.1, 0.9, parameters=layer.parameters())
    with internal("Optimizer._create_accumulators"):
        assert not paddle_internals.accumulators(optimizer)
        paddle_internals.create_accumulators(optimizer, layer.parameters())
        velocity = paddle_internals.accumulators(optimizer)["velocity"]
        assert set(velocity) == {p.name for p in layer.parameters()}
        assert not any(tensor.numpy().any() for tensor in velocity.values())


def test_creating_accumulators_again_keeps_them():
    layer = nn.Linear(4, 3)
    optimizer = one_momentum_step(layer)
    with internal("Optimizer._create_accumulators"):
        before = paddle_internals.accumulators(optimizer)["velocity"][layer.weight.name].numpy()
        paddle_internals.create_accumulators(optimizer, layer.parameters())
        after = paddle_internals.accumulators(optimizer)["velocity"][layer.weight.name].numpy()
        assert before.any() and (before == after).all()


def test_accumulators_hold_the_velocity_by_parameter_name():
    layer = nn.Linear(4, 3)
    optimizer = one_momentum_step(layer)
    with internal("Optimizer._accumulators"):
        slots = paddle_internals.accumulators(optimizer)
        assert set(slots) == {"velocity"}
        velocity = slots["velocity"][layer.weight.name]
        assert velocity.shape == layer.weight.shape
        assert (velocity.numpy() == layer.weight.grad.numpy()).all()


def test_accumulators_are_live():
    layer = nn.Linear(4, 3, bias_attr=False)
    layer.weight.set_value(paddle.zeros([4, 3]))
    optimizer = one_momentum_step(layer)
    with internal("Optimizer._accumulators"):
        paddle_internals.accumulators(optimizer)["velocity"][layer.weight.name].set_value(
            np.full((4, 3), 10, "float32")
        )
        before = layer.weight.numpy()
        optimizer.step()  # the gradient is 2 everywhere
        assert layer.weight.numpy() == pytest.approx(before - 0.1 * (0.9 * 10 + 2))


def test_translated_code_is_written_to_the_given_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/no folder")

    class Twice(nn.Layer):
        def forward(self, x):
            if x.sum() > 0:  # a branch, so that the code is translated
                x = 2 * x
            return x

    with internal("translated_code_in"):
        with paddle_internals.translated_code_in(tmp_path):
            program = paddle.jit.to_static(Twice(), full_graph=True)
            assert program(paddle.ones([1])).item() == 2
        assert [file.suffix for file in tmp_path.iterdir()].count(".py") >= 1


def test_warnings_of_operators_read_no_source(monkeypatch):
    monkeypatch.setattr("inspect.findsource", None)
    program = paddle.static.program_guard(paddle.static.Program())
    short = paddle_internals.stacks_without_source()
    with internal("math_op_patch.inspect"), OldIrGuard(), program, short:
        x = paddle.static.data("x", [-1, 2])
        with pytest.warns(DeprecationWarning, match=r"test_paddle_internals.py:\d+"):
            _ = x + x


def test_master_weights_are_float32_copies_by_parameter_name():
    layer = nn.Linear(4, 3).to(dtype="bfloat16")
    optimizer = paddle.optimizer.Momentum(
        0.1, 0.9, parameters=layer.parameters(), multi_precision=True
    )
    with internal("Optimizer._master_weights"):
        assert not paddle_internals.master_weights(optimizer)
        paddle_internals.create_accumulators(optimizer, layer.parameters())
        copies = paddle_internals.master_weights(optimizer)
        copy = copies[layer.weight.name]
        assert set(copies) == {p.name for p in layer.parameters()}
        assert copy.dtype == paddle.float32 and copy.shape == layer.weight.shape
        assert copy.name in paddle_internals.accumulators(optimizer)["velocity"]


def test_parameters_keep_their_own_regularizer_and_learning_rate_factor():
    """Both are attributes without an underscore that Paddle does not document."""
    with internal("Parameter.regularizer", "paddlevideo/solver/optimizer.py"):
        plain = nn.Linear(2, 2).weight
        own = nn.Linear(2, 2, weight_attr=ParamAttr(regularizer=L2Decay(0.0))).weight
        assert plain.regularizer is None and isinstance(own.regularizer, L2Decay)
    with internal("Parameter.optimize_attr", "paddlevideo/engine/finetune.py"):
        own = nn.Linear(2, 2, weight_attr=ParamAttr(learning_rate=5.0)).weight
        assert own.optimize_attr["learning_rate"] == 5.0


def test_squared_norm():
    with internal("paddle._C_ops.squared_l2_norm"):
        tensors = [paddle.to_tensor([3.0, 4.0]), paddle.to_tensor([[1.0], [2.0]])]
        assert paddle_internals.squared_norm(tensors).item() == 30
        for value in (float("nan"), float("inf")):
            norm = paddle_internals.squared_norm([*tensors, paddle.to_tensor([value])])
            assert not np.isfinite(norm.item())


def test_a_gradient_scaler_has_the_scales_of_paddles(monkeypatch):
    """Where nothing overflows; and at an overflow, at which Paddle's own may fail."""
    GpuBuild(monkeypatch)
    paddle.set_device("gpu:0")
    settings = {"incr_every_n_steps": 2, "decr_every_n_nan_or_inf": 2}
    ours = paddle_internals.GradScaler(True, 8.0, **settings)
    paddles = paddle.amp.GradScaler(True, 8.0, **settings)
    weight = paddle.create_parameter([1], "float32")
    optimizer = paddle.optimizer.SGD(0.1, parameters=[weight])

    def step(scaler, factor):
        with paddle.amp.auto_cast():
            loss = (weight * factor).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.clear_grad()
        return scaler.state_dict()["scale"].item()

    for _ in range(5):
        assert step(ours, 1.0) == step(paddles, 1.0)
    assert step(ours, 1.0) == 64
    before = weight.numpy()
    inf = float("inf")
    assert [step(ours, inf), step(ours, inf), step(ours, inf)] == [64, 32, 32]
    assert (weight.numpy() == before).all()
    assert [step(ours, 1.0), step(ours, 1.0), step(ours, 1.0)] == [32, 64, 64]


# --- batch norm -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NORMS)
def test_batch_norms_start_with_mean_0_and_variance_1(name):
    with internal(f"{name}._mean, {name}._variance"):
        norm = NORMS[name]()
        assert paddle_internals.is_batch_norm(norm)
        mean, variance = paddle_internals.running_statistics(norm)
        assert mean.numpy().tolist() == [0] * 3 and variance.numpy().tolist() == [1] * 3
        assert set(norm.state_dict()) >= {"_mean", "_variance"}, "the names in weight files"


@pytest.mark.parametrize("layer", [nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.InstanceNorm3D(3)])
def test_other_norms_have_no_running_statistics(layer):
    with internal(type(layer).__name__):
        assert not paddle_internals.is_batch_norm(layer)


# SyncBatchNorm trains on GPUs only.
@pytest.mark.parametrize("name", sorted(set(NORMS) - {"SyncBatchNorm"}))
@pytest.mark.parametrize("keep", [None, 0.0])
def test_training_moves_the_statistics_by_one_minus_the_momentum(name, keep):
    with internal(f"{name}._momentum"):
        norm = NORMS[name]()
        assert paddle_internals.momentum(norm) == 0.9
        if keep is not None:
            paddle_internals.set_momentum(norm, keep)
        share = 1 - paddle_internals.momentum(norm)
        x = input_of(norm)
        norm(x)
        axes = (0, *range(2, x.ndim))
        mean, variance = paddle_internals.running_statistics(norm)
        assert mean.numpy() == pytest.approx(share * x.numpy().mean(axes), rel=1e-4)
        expected = (1 - share) + share * x.numpy().var(axes)
        assert variance.numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", sorted(set(NORMS) - {"SyncBatchNorm"}))
def test_frozen_statistics_stay_and_are_used_in_training(name):
    with internal(f"{name}._use_global_stats"):
        norm = NORMS[name]()
        assert not paddle_internals.statistics_are_frozen(norm)
        paddle_internals.freeze_statistics(norm)
        assert paddle_internals.statistics_are_frozen(norm)
        x = input_of(norm)
        y = norm(x)
        mean, variance = paddle_internals.running_statistics(norm)
        assert mean.numpy().tolist() == [0] * 3 and variance.numpy().tolist() == [1] * 3
        assert y.numpy() == pytest.approx(x.numpy() / np.sqrt(1 + 1e-5), rel=1e-5)


def test_sync_batch_norm_has_the_same_attributes():
    with internal("SyncBatchNorm._momentum, SyncBatchNorm._use_global_stats"):
        norm = nn.SyncBatchNorm(3)
        assert paddle_internals.momentum(norm) == 0.9
        assert not paddle_internals.statistics_are_frozen(norm)


# --- layers -----------------------------------------------------------------------------------


def test_replaced_weight_is_used_and_passes_its_gradient_on():
    with internal("Layer._parameters"):
        layer = nn.Linear(2, 1, bias_attr=False)
        weight = layer.weight
        paddle_internals.replace_weight(layer, weight * 3)
        x = paddle.ones([1, 2])
        assert layer(x).item() == pytest.approx(3 * weight.sum().item())
        layer(x).sum().backward()
        assert weight.grad.numpy().tolist() == [[3.0], [3.0]]
        paddle_internals.replace_weight(layer, weight)
        assert layer.weight is weight and [p.name for p in layer.parameters()] == [weight.name]


@pytest.mark.parametrize(
    ("base", "name"),
    [(b, name) for b, names in paddle_internals.BASE_CLASS_ATTRIBUTES.items() for name in names],
)
def test_attributes_that_subclasses_read(base, name):
    expected = {
        "_padding": 1,
        "_groups": 1,
        "_momentum": 0.8,
        "_epsilon": 1e-3,
        "_num_features": 3,
        "_use_global_stats": None,
    }
    with internal(f"{base.__name__}.{name}", "paddlevideo/models/layers.py, models/vlad.py"):
        is_conv = issubclass(base, nn.Conv2D | nn.Conv3D)
        layer = base(3, 4, 3, 2, 1) if is_conv else base(3, momentum=0.8, epsilon=1e-3)
        value = getattr(layer, name)
        if name in ("_mean", "_variance"):
            assert value.shape == [3] and value.stop_gradient
        elif name == "_stride":
            assert value == [2] * (layer.weight.ndim - 2)
        else:
            assert value == expected[name]


# --- who may name them --------------------------------------------------------------------------

PRIVATE = {
    "_parameter_list", "_create_accumulators", "_accumulators", "_master_weights", "_parameters",
    "_mean", "_variance", "_momentum", "_use_global_stats", "_stride", "_padding", "_epsilon",
    "_num_features",
}  # fmt: skip


def uses_of_internals(name: str, text: str) -> list[str]:
    """Paddle's private names that the file `name` (a path below paddlevideo/) reaches into."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr in PRIVATE:
            on_self = isinstance(node.value, ast.Name) and node.value.id == "self"
            if not (on_self and name in SUBCLASS_FILES):
                found.append(f"{name}:{node.lineno}: {ast.unparse(node)}")
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Attribute) and node.attr == "base":
            modules = [ast.unparse(node)]
        if any((m + ".").startswith("paddle.base.") for m in modules):
            found.append(f"{name}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_only_one_file_reaches_into_paddle(root):
    package, found = root / "paddlevideo", []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name not in MAY_NAME_PADDLE_BASE:
            found += uses_of_internals(name, path.read_text(encoding="utf-8"))
    assert not found, f"move these to {FILE}, and test them here:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("engine/a.py", "norm._mean"),
        ("engine/a.py", "self.optimizer._accumulators"),
        ("models/layers.py", "layer._stride"),
        ("dist.py", "from paddle.base import core"),
        ("dist.py", "import paddle.base.core"),
        ("dist.py", "paddle.base.core.set_num_threads(1)"),
    ],
)
def test_sees_a_file_that_reaches_into_paddle(name, text):
    assert uses_of_internals(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [("models/layers.py", "self._stride"), ("engine/a.py", "paddle.nn.Linear(1, 1)._name")],
)
def test_allows_other_attributes(name, text):
    assert not uses_of_internals(name, text)
