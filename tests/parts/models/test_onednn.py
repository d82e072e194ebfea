"""Convolutions by oneDNN: the same numbers as Paddle's, and a fallback to Paddle."""

import subprocess
import sys

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddlevideo import dist
from paddlevideo.api import session
from paddlevideo.models import onednn
from paddlevideo.models import onednn_library as binding
from paddlevideo.models.layers import Conv2D, Conv3D
from paddlevideo.models.recognizer import Recognizer3D
from paddlevideo.models.slowfast import ResNetSlowFast, SlowFastHead

pytestmark = pytest.mark.skipif(bool(onednn.missing()), reason=f"oneDNN: {onednn.missing()}")
CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
SIZES = [
    ((2, 3, 8, 20, 22), (8, 3, 5, 7, 7), (1, 2, 2), (2, 3, 3)),  # the fast stem
    ((2, 16, 8, 7, 7), (32, 16, 5, 1, 1), (4, 1, 1), (2, 0, 0)),  # a lateral connection
    ((2, 24, 4, 6, 6), (16, 24, 3, 1, 1), (1, 1, 1), (1, 0, 0)),
    ((1, 16, 2, 9, 9), (16, 16, 1, 3, 3), (1, 2, 2), (0, 1, 1)),
    ((3, 20, 2, 5, 5), (70, 20, 1, 1, 1), (1, 2, 2), (0, 0, 0)),
    ((2, 5, 12, 9), (7, 5, 3, 3), (2, 1), (1, 1)),
    ((2, 5, 12), (7, 5, 4), (3,), (0,)),
    # oneDNN 3.6.2 computes this one wrongly where it is prepared for inference.
    ((3, 1, 14, 28, 7), (16, 1, 7, 7, 7), (1, 1, 4), (0, 0, 0)),
]
# (x, weight, stride, padding, groups): depthwise, and groups of several channels.
GROUPED = [
    ((2, 24, 14, 14), (24, 1, 3, 3), (1, 1), (1, 1), 24),
    ((2, 20, 15, 13), (20, 1, 5, 5), (2, 2), (2, 2), 20),
    ((3, 12, 9, 8), (18, 4, 3, 3), (2, 1), (1, 0), 3),
    ((2, 8, 12), (16, 1, 3), (1,), (1,), 8),
    ((1, 6, 4, 7, 7), (6, 1, 3, 3, 3), (1, 1, 1), (1, 1, 1), 6),
]
KINDS = {  # inputs and output by oneDNN's arguments
    "forward": ({binding.SRC: "x", binding.WEIGHTS: "weight"}, binding.DST),
    "data": ({binding.DIFF_DST: "y", binding.WEIGHTS: "weight"}, binding.DIFF_SRC),
    "weights": ({binding.SRC: "x", binding.DIFF_DST: "y"}, binding.DIFF_WEIGHTS),
}
GUARD = 1024


@pytest.fixture(autouse=True)
def _onednn_on():
    with onednn.use(True):
        yield


def noise(shape, seed=0):
    return paddle.to_tensor(
        np.random.default_rng(seed).standard_normal(shape).astype(np.float32), stop_gradient=False
    )


def results(convolve, x_shape, w_shape):
    """Output and both gradients, for a gradient of the output that is not contiguous."""
    x, weight = noise(x_shape), noise(w_shape, 1)
    y = convolve(x, weight)
    transposed = noise(y.shape[::-1], 2).transpose(range(len(y.shape))[::-1])
    return [t.numpy() for t in (y, *paddle.grad([y], [x, weight], [transposed]))]


def close(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * b.std(), np.abs(a - b).max() / b.std()


@pytest.mark.parametrize(("x", "weight", "stride", "padding"), SIZES)
def test_output_and_gradients_equal_those_of_paddle(x, weight, stride, padding):
    expected = results(
        lambda a, w: CONVOLUTIONS[len(x)](a, w, None, list(stride), list(padding)), x, weight
    )
    found = results(lambda a, w: onednn.conv(a, w, stride, padding), x, weight)
    close(found, expected)
    again = results(lambda a, w: onednn.conv(a, w, stride, padding), x, weight)
    assert all((a == b).all() for a, b in zip(found, again, strict=True))  # bit-identical
    with paddle.no_grad():
        close([onednn.conv(noise(x), noise(weight, 1), stride, padding).numpy()], expected[:1])


@pytest.mark.parametrize(("x", "weight", "stride", "padding", "groups"), GROUPED)
def test_groups_equal_those_of_paddle(x, weight, stride, padding, groups):
    convolve = CONVOLUTIONS[len(x)]
    expected = results(
        lambda a, w: convolve(a, w, None, list(stride), list(padding), groups=groups), x, weight
    )
    assert onednn.supports_conv(noise(x), noise(weight), stride, padding, groups)
    found = results(lambda a, w: onednn.conv(a, w, stride, padding, groups), x, weight)
    close(found, expected)


def guarded(values):
    """A copy with NaN around it, its address, and a check that the NaN are unchanged."""
    # NaN also reveals values that are read outside of the array.
    memory = np.full(values.size + 2 * GUARD, np.nan, np.float32)
    start = GUARD + -(memory.ctypes.data // 4 + GUARD) % 16
    inside = memory[start : start + values.size].reshape(values.shape)
    inside[...] = values
    around = (memory[:start], memory[start + values.size :])
    return inside, inside.ctypes.data, lambda: all(np.isnan(part).all() for part in around)


def random_groups(rng):
    """Depthwise convolutions in guarded memory, too."""
    kernel, stride = int(rng.choice([3, 5])), int(rng.choice([1, 2]))
    space = rng.choice([3, 4, 5, 7, 8, 14, 15, 28], 2) + kernel
    channels = int(rng.choice([1, 3, 8, 16, 24, 40, 96]))
    x, weight = (int(rng.integers(1, 4)), channels, *space), (channels, 1, kernel, kernel)
    padding = int(rng.choice([0, kernel // 2]))
    sizes = tuple(int(v) for v in x), weight, (stride,) * 2, (padding,) * 2
    return (*sizes, channels)


def random_sizes(rng):
    while True:
        kernel = rng.choice([1, 1, 2, 3, 5, 7], rng.choice([2, 3, 3]))
        stride = rng.choice([1, 2, 3, 4, 8], kernel.size)
        padding = kernel // 2 * rng.integers(0, 2, kernel.size)
        space = np.maximum(kernel, rng.choice([1, 2, 3, 4, 7, 8, 14, 16, 28, 33, 64], kernel.size))
        batch, (c_in, c_out) = rng.integers(1, 4), rng.choice([1, 3, 8, 16, 24, 32, 64, 80], 2)
        x, weight = (batch, c_in, *space), (c_out, c_in, *kernel)
        outputs = batch * c_out * np.prod((space + 2 * padding - kernel) // stride + 1)
        sizes = [tuple(int(v) for v in axis) for axis in (x, weight, stride, padding)]
        empty = [paddle.empty(shape) for shape in sizes[:2]]
        if (
            outputs * c_in * np.prod(kernel) < 2e7
            and np.prod(x) < 3e5
            and onednn.supports_conv(*empty, *sizes[2:])
        ):
            return sizes


def check_random_sizes(count, seed):
    """Compare `count` convolutions and their gradients with Paddle's, in guarded memory."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        *sizes, groups = random_groups(rng) if number % 4 == 3 else (*random_sizes(rng), 1)
        x, weight = (noise(shape, i) for i, shape in enumerate(sizes[:2]))
        space = (list(v) for v in sizes[2:])
        y = CONVOLUTIONS[len(x.shape)](x, weight, None, *space, groups=groups)
        grad = noise(y.shape, 2)
        expected = dict(
            zip(("data", "weights"), paddle.grad([y], [x, weight], [grad]), strict=True), forward=y
        )
        for kind, (inputs, output) in KINDS.items():
            given = {"x": x, "weight": weight, "y": grad}
            arrays = {name: guarded(given[tensor].numpy()) for name, tensor in inputs.items()}
            arrays[output] = guarded(np.full_like(expected[kind].numpy(), np.nan))
            onednn._prepared(kind, *sizes, binding.library().threads, groups).run(
                {name: address for name, (_, address, _) in arrays.items()}
            )
            found, wanted = arrays[output][0], expected[kind].numpy()
            assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max(), (kind, *sizes)
            assert all(untouched() for _, _, untouched in arrays.values()), (kind, *sizes)


def test_random_sizes():
    check_random_sizes(60, seed=0)


@pytest.mark.slow
def test_many_random_sizes():
    check_random_sizes(3000, seed=1)


def test_any_number_of_threads():
    x, weight, stride, padding = SIZES[0]
    try:
        found = []
        for threads in (1, 3, 2):
            dist.use_threads(threads)
            found.append(results(lambda a, w: onednn.conv(a, w, stride, padding), x, weight))
    finally:
        dist.use_threads()
    close(found[0], found[1])
    close(found[0], found[2])


IN_ANOTHER_THREAD = """
import threading
import paddle
from paddlevideo import dist
from paddlevideo.models import onednn

x, weight = paddle.randn([2, 8, 28, 16, 28]), paddle.randn([32, 8, 5, 1, 2])
x.stop_gradient = weight.stop_gradient = False
found = []

def run():
    dist.use_threads(2)
    y = onednn.conv(x, weight, (1, 4, 2), (2, 0, 0))
    found.append([t.numpy() for t in (y, *paddle.grad([y], [x, weight], [paddle.ones_like(y)]))])

run()
thread = threading.Thread(target=run)
thread.start()
thread.join()
assert all((a == b).all() for a, b in zip(*found, strict=True))
"""


def test_prepared_in_one_thread_and_run_in_another(root):
    """Runs in its own process: memory that belongs to a thread would crash it."""
    command = [sys.executable, "-W", "ignore", "-c", IN_ANOTHER_THREAD]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_workspace_recovers_from_a_failed_allocation(monkeypatch):
    workspace, real = onednn._Workspace(), paddle.empty

    def none(*_):
        raise MemoryError("no memory")

    workspace(100)
    monkeypatch.setattr(paddle, "empty", none)
    with pytest.raises(MemoryError):
        workspace(1 << 20)
    monkeypatch.setattr(paddle, "empty", real)
    assert workspace(50) % 64 == 0


def test_computes_only_required_gradients():
    x, weight = noise((1, 2, 3, 4, 4)), noise((3, 2, 1, 3, 3), 1)
    x.stop_gradient = True
    onednn.conv(x, weight, (1, 1, 1), (0, 1, 1)).sum().backward()
    assert x.grad is None and weight.grad is not None
    frozen = noise((3, 2, 1, 3, 3), 1)
    frozen.stop_gradient, x.stop_gradient = True, False
    onednn.conv(x, frozen, (1, 1, 1), (0, 1, 1)).sum().backward()
    assert x.grad is not None and frozen.grad is None
    x.stop_gradient = True
    assert onednn.conv(x, frozen, (1, 1, 1), (0, 1, 1)).stop_gradient


def test_leaves_unsupported_sizes_to_paddle():
    x, weight, sizes = noise((1, 2, 5, 5)), noise((3, 2, 3, 3)), ((1, 1), (0, 0))
    assert onednn.supports_conv(x, weight, *sizes)
    assert not onednn.supports_conv(x.astype("float64"), weight.astype("float64"), *sizes)
    assert not onednn.supports_conv(x[:, :1], weight, *sizes)
    assert not onednn.supports_conv(x[:, :, :2], weight, *sizes)  # smaller than the kernel
    assert not onednn.supports_conv(x[:0], weight, *sizes)
    # Groups that do not divide the channels of the input, or of the output.
    assert not onednn.supports_conv(x, noise((3, 1, 3, 3)), *sizes, groups=2)
    assert not onednn.supports_conv(x, noise((4, 2, 3, 3)), *sizes, groups=2)
    # A stride larger than the kernel; a kernel larger than an axis minus its padding.
    assert not onednn.supports_conv(noise((1, 2, 9, 9)), weight, (1, 4), (1, 1))
    assert not onednn.supports_conv(noise((1, 2, 9, 3)), weight, (1, 1), (1, 1))
    with onednn.use(False) as on:
        assert not on and not onednn.supports_conv(x, weight, *sizes)
    assert onednn.supports_conv(x, weight, *sizes)
    for layer, wrong in (
        (Conv2D(2, 3, 3, bias_attr=False), x[:, :1]),
        (Conv3D(2, 3, 3, bias_attr=False), x),
    ):
        with pytest.raises(ValueError):  # Paddle's own message
            layer(wrong)


def test_rejects_sizes_that_do_not_fit():
    with pytest.raises(
        onednn.OneDNNError,
        match=r"dnnl_convolution_forward_primitive_desc_create returned status .*onednn: false",
    ):
        onednn.conv(noise((1, 2, 5, 5)), noise((3, 4, 3, 3)), (1, 1), (0, 0))


def test_layers_fall_back_to_paddle(monkeypatch, tmp_path):
    layer, x = (
        Conv3D(2, 4, [1, 3, 3], [1, 2, 2], [0, 1, 1], bias_attr=False),
        noise((2, 2, 3, 8, 8)),
    )
    found = layer(x).numpy()
    monkeypatch.setattr(onednn, "missing", lambda: "libdnnl.so.3: no such file")
    with onednn.use(True) as on:
        assert not on
    close([layer(x).numpy()], [found])
    with pytest.raises(OSError, match="libdnnl"):
        binding.Library(tmp_path)


def trained(by_onednn):
    """State after three steps of a small SlowFast, with split norms."""
    paddle.seed(0)
    backbone = ResNetSlowFast(
        alpha=4, width_per_group=16, beta=4, bn_norm_type="sub_batchnorm", bn_num_splits=2
    )
    model = Recognizer3D(backbone, SlowFastHead(5, dropout_rate=0.0, crop_size=64))
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters())
    for step in range(3):
        fast = noise((4, 3, 8, 64, 64), step).detach()
        batch = {"fast": fast, "slow": fast[:, :, ::4], "label": paddle.to_tensor([0, 1, 2, 3])}
        with onednn.use(by_onednn):
            model.losses(model(batch), batch)["loss"].backward()
        optimizer.step()
        optimizer.clear_grad()
    return {name: t.numpy() for name, t in model.state_dict().items()}


def num_calls() -> int:
    """The number of convolutions that oneDNN has computed."""
    used = onednn._prepared.cache_info()
    return used.hits + used.misses


@pytest.mark.usefixtures("shallow")
def test_three_steps_of_slowfast_equal_those_of_paddle():
    plain, calls_before = trained(False), num_calls()
    fast = trained(True)
    assert num_calls() > calls_before, "oneDNN was used"
    assert plain.keys() == fast.keys()
    for name, expected in plain.items():
        assert np.abs(fast[name] - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1e-3), name


def test_the_config_switches_it(small):
    for text, on in (("onednn=false", False), ("onednn=true", True)):
        with session(small(text)):
            sizes = noise((1, 2, 5, 5)), noise((3, 2, 3, 3)), (1, 1), (0, 0)
            assert onednn.supports_conv(*sizes) is on
