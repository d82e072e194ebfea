"""Conversion of weights: the rules, the reported lines, and the tool."""

import numpy as np
import pytest

import paddlevideo
from paddlevideo.models.convert import Rule, convert, sources, translate
from paddlevideo.models.tagger import TaggerMixture
from paddlevideo.weights import WeightsError, load_into, read_arrays, state_arrays, write_arrays
from tests.parts.models.convert_files import NORM, paddlecv, tagger, tensorflow, write_checkpoint
from tests.scripts import load_script


def test_sources():
    assert {"paddlecv_nextvlad", "youtube8m_nextvlad", "nextvlad_mixture"} <= set(sources())
    with pytest.raises(
        KeyError, match="no converter named 'paddlecv'.*did you mean 'paddlecv_nextvlad'"
    ):
        paddlevideo.convert_state_dict({}, source="paddlecv")


def test_both_releases_convert_to_the_same_tensors():
    arrays = paddlecv(np.random.default_rng(0))
    converted = paddlevideo.convert_state_dict(arrays, source="paddlecv_nextvlad")
    others = paddlevideo.convert_state_dict(tensorflow(arrays), source="youtube8m_nextvlad")
    assert converted.keys() == others.keys() and len(converted) == len(arrays)
    for name, array in converted.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
    model = tagger()
    load_into(model, converted, "synthetic")
    np.testing.assert_array_equal(
        model.backbone.video.centers.numpy(), arrays["video_cluster_weights2"]
    )
    np.testing.assert_array_equal(
        model.head.gate_norm._variance.numpy(), arrays["batch_norm_5.w_2"]
    )


def test_drops_the_optimizer_of_a_checkpoint():
    arrays = paddlecv(np.random.default_rng(0))
    variables = {f"{name}:0": array for name, array in tensorflow(arrays, scope="").items()}
    extra = {
        "global_step": np.int64(7),
        "beta1_power": np.float32(0.5),
        "hidden1_weights/Adam_1": np.zeros((3, 3)),
    }
    conversion = convert({**variables, **extra}, "youtube8m_nextvlad")
    assert conversion.arrays.keys() == convert(arrays, "paddlecv_nextvlad").arrays.keys()
    lines = "\n".join(conversion.lines)
    assert "global_step [] is dropped: a counter of the optimizer" in lines
    assert "hidden1_weights/Adam_1 [3, 3] is dropped: a moment of Adam" in lines
    assert (
        "video_VLAD/cluster_weights2 [1, 512, 4] -> backbone.video.centers [4, 512] (transposed"
        in lines
    )
    assert "backbone.eigen_param [1024] is the constant of the official features" in lines
    assert len(conversion.lines) == len(variables) + len(extra) + 1


def test_mixture_of_the_original_and_its_first_member():
    members = [paddlecv(np.random.default_rng(seed)) for seed in range(2)]
    variables = {}
    for number, arrays in enumerate(members):
        variables |= tensorflow(arrays, f"tower/branch_{number}/", "vlad")
    rng = np.random.default_rng(9)
    gate = {
        "mix_weights/weights": (1030, 2),
        "mix_weights/biases": (2,),
        **{f"mix_weights_bn/{p}": (1030,) for p in NORM.values()},
    }
    variables |= {
        f"tower/{name}": rng.random(shape).astype(np.float32) for name, shape in gate.items()
    }
    converted = paddlevideo.convert_state_dict(variables, source="youtube8m_nextvlad")
    first = tagger(convention="tensorflow")
    mixture = TaggerMixture(first.backbone, first.head, num_members=2)
    account = load_into(mixture, converted, "synthetic")
    assert not account.missing and not account.unused
    np.testing.assert_array_equal(mixture.gate.bias.numpy(), variables["tower/mix_weights/biases"])
    alone = paddlevideo.convert_state_dict(state_arrays(mixture), source="nextvlad_mixture")
    expected = paddlevideo.convert_state_dict(members[0], source="paddlecv_nextvlad")
    assert alone.keys() == expected.keys()
    assert all((alone[name] == expected[name]).all() for name in alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a.update(conv1=np.zeros((2, 3))),
            r"not weights of youtube8m_nextvlad: conv1 \[2, 3\] matches no rule",
        ),
        (lambda a: a.update(hidden1_weights=np.zeros(1)), "both become .*head.hidden.weight"),
        (
            lambda a: a.update({"tower/video_VLAD/cluster_weights2": np.zeros((3, 4))}),
            r"\[3, 4\] cannot be transposed, without its first axis: expected \[1, D1, K\]",
        ),
        (lambda a: a.clear(), "no tensor matches a rule"),
    ],
)
def test_rejects_weights_that_do_not_fit(change, message):
    arrays = tensorflow(paddlecv(np.random.default_rng(0)))
    change(arrays)
    with pytest.raises(WeightsError, match=message):
        paddlevideo.convert_state_dict(arrays, source="youtube8m_nextvlad")


def test_counts_further_problems():
    with pytest.raises(WeightsError, match=r"n5 \[\] matches no rule; and 3 more"):
        translate({f"n{i}": np.zeros(()) for i in range(9)}, [Rule("x", "y")], "nothing")


# --- the tool -------------------------------------------------------------------------------------


@pytest.fixture
def tool(capsys, monkeypatch):
    """`tool(*arguments)` -> (exit code, printed text)."""
    module = load_script(monkeypatch, "tools/convert_weights.py")

    def call(*arguments):
        code = module.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_tool_writes_weights_that_a_model_loads(tool, tmp_path, suffix):
    arrays = paddlecv(np.random.default_rng(0))
    write_arrays(tmp_path / "NEXTVLAD.pdparams", arrays)
    out = tmp_path / f"new/ours{suffix}"
    code, printed = tool(
        "--source", "paddlecv_nextvlad", "-w", tmp_path / "NEXTVLAD.pdparams", "-o", out
    )
    assert code == 0, printed
    assert all(f"{name} [" in printed for name in arrays)
    values = sum(array.size for array in arrays.values())
    assert (
        f"{len(arrays)} tensors read; {out}: {len(arrays)} tensors, {values:,} values written"
        in printed
    )
    load_into(tagger(), read_arrays(out), "synthetic")


def test_tool_reads_a_checkpoint(tool, tmp_path):
    prefix = write_checkpoint(
        tmp_path / "model.ckpt-1", tensorflow(paddlecv(np.random.default_rng(0)))
    )
    code, printed = tool(
        "--source", "youtube8m_nextvlad", "-w", prefix, "-o", tmp_path / "ours.pdparams", "-q"
    )
    assert code == 0 and len(printed.splitlines()) == 1, printed
    load_into(tagger(convention="tensorflow"), read_arrays(tmp_path / "ours.pdparams"), "synthetic")


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_tool_keeps_other_weights(tool, tmp_path, suffix):
    for seed in (0, 1):
        write_arrays(tmp_path / f"{seed}.pdparams", paddlecv(np.random.default_rng(seed)))
    out = tmp_path / f"ours{suffix}"

    def convert(seed, *flags):
        weights = tmp_path / f"{seed}.pdparams"
        return tool("--source", "paddlecv_nextvlad", "-w", weights, "-o", out, "-q", *flags)

    assert convert(0)[0] == 0
    first = out.read_bytes()
    assert convert(0)[0] == 0 and out.read_bytes() == first
    code, printed = convert(1)
    assert code == 1 and f"{out} holds other weights; give another file, or --overwrite" in printed
    assert out.read_bytes() == first
    assert convert(1, "--overwrite")[0] == 0 and out.read_bytes() != first
    out.write_text("notes", encoding="utf-8")
    assert convert(1)[0] == 1 and out.read_text(encoding="utf-8") == "notes"


def test_tool_writes_no_file_where_it_fails(tool, tmp_path):
    write_arrays(tmp_path / "other.pdparams", {"conv.weight": np.zeros((2, 2), np.float32)})
    out = tmp_path / "ours.pdparams"
    for weights, target, message in (
        ("other.pdparams", out, "not weights of paddlecv_nextvlad: conv.weight"),
        ("missing.pdparams", out, "there is no such file"),
        ("other.pdparams", tmp_path / "ours.npz", "expected a .pdparams or .safetensors file"),
    ):
        code, printed = tool(
            "--source", "paddlecv_nextvlad", "-w", tmp_path / weights, "-o", target
        )
        assert code == 1 and printed.startswith("error: ") and message in printed, printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.pdparams"]
