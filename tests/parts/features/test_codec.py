"""Features as bytes: components, whitening, 8 bits; the file they are kept in."""

import numpy as np
import pytest

from paddlevideo.features.codec import (
    EPSILON,
    LEVELS,
    Codec,
    Moments,
    fit,
    read_codecs,
    write_codecs,
)
from paddlevideo.sample import DecodeError

RNG = np.random.default_rng(0)
MIX = RNG.standard_normal((6, 6)) * [9, 5, 3, 1, 0.5, 0.1]
FRAMES = (RNG.standard_normal((500, 6)) @ MIX.T + 1000).astype(
    np.float32
)  # far from 0: small differences of large numbers


def moments(frames=FRAMES, parts=7):
    held = Moments(frames.shape[1])
    for part in np.array_split(frames, parts):
        held.add(part)
    return held


def test_moments_are_those_of_all_frames():
    mean, covariance = moments().mean_and_covariance()
    exact = FRAMES.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(exact.T, bias=True), rtol=1e-9)
    held = moments()
    held.add(np.zeros((0, 6)))
    assert held.count == 500
    with pytest.raises(ValueError, match="1 frames to fit on; at least two"):
        moments(FRAMES[:1], 1).mean_and_covariance()


def test_values_are_whitened_each_by_itself():
    codec = fit(moments())
    stored = codec.encode(FRAMES)
    assert stored.dtype == np.uint8 and stored.shape == (500, 6) and codec.width == 6
    values = (FRAMES.astype(np.float64) - FRAMES.mean(0, dtype=np.float64)) / (
        FRAMES.std(0, dtype=np.float64) + EPSILON
    )
    np.testing.assert_allclose(stored * 4.0 / 255 - 2, values.clip(-2, 2), atol=0.5 / LEVELS + 1e-3)
    assert stored.min() == 0 and stored.max() == 255, (
        "what is further than two deviations is cut there"
    )


def test_components_are_uncorrelated_largest_first_and_the_same_everywhere():
    codec = fit(moments(), 4)
    values = (FRAMES - codec.mean) @ codec.components
    covariance = np.cov(values.astype(np.float64).T, bias=True)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)) + EPSILON, codec.scale, rtol=1e-3)
    assert (np.diff(codec.scale) < 0).all() and np.abs(
        covariance - np.diag(np.diag(covariance))
    ).max() < 1e-2
    strongest = np.abs(codec.components).argmax(0)
    assert (codec.components[strongest, np.arange(4)] > 0).all(), "the sign is settled"
    again = fit(moments(parts=3), 4)
    np.testing.assert_allclose(again.components, codec.components, atol=1e-5)


@pytest.mark.parametrize("components", [None, 6])
def test_what_is_stored_comes_back(components):
    codec, frames = fit(moments(), components), FRAMES[:50]
    inside = (
        np.abs(codec.encode(frames).astype(int) - 127.5).max(1) < 127
    )  # frames of which nothing was cut
    error = np.abs(codec.decode(codec.encode(frames)) - frames)[inside]
    assert inside.sum() > 10 and error.max() < np.abs(codec.scale).sum() / LEVELS


def test_the_whitening_is_what_nextvlad_undoes():
    """The model multiplies what it reads by `scale`: the deviations of the components come back."""
    codec = fit(moments(), 3)
    undone = (codec.encode(FRAMES) * 4.0 / 255 - 2) * codec.scale
    exact = (FRAMES - codec.mean) @ codec.components
    near = np.abs(exact) < 1.9 * codec.scale
    assert np.abs(undone - exact)[near].max() <= 0.51 * codec.scale.max() / LEVELS + 1e-3


def test_refuses():
    with pytest.raises(
        ValueError, match="9 principal components of 6 values in 500 frames; at most 6"
    ):
        fit(moments(), 9)
    with pytest.raises(ValueError, match="at most 3 can be fitted"):
        fit(moments(FRAMES[:4], 1), 4)
    codec = fit(moments())
    with pytest.raises(
        ValueError, match=r"frames are \[5, 4\], expected \[T, 6\]: features of another network"
    ):
        codec.encode(FRAMES[:5, :4])
    with pytest.raises(ValueError, match="not finite"):
        codec.encode(np.full((2, 6), np.nan))
    with pytest.raises(ValueError, match="expected"):
        Codec(np.zeros(6), None, np.ones(5))
    with pytest.raises(ValueError, match="deviation of 0"):
        Codec(np.zeros(6), None, np.zeros(6))


def test_a_file_keeps_them(tmp_path):
    codecs = {"rgb": fit(moments(), 4), "audio": fit(moments())}
    write_codecs(tmp_path / "fitted.npz", codecs, "network 1")
    again, made_by = read_codecs(tmp_path / "fitted.npz")
    assert (
        made_by == "network 1"
        and list(again) == ["rgb", "audio"]
        and again["audio"].components is None
    )
    for name, codec in codecs.items():
        np.testing.assert_array_equal(again[name].encode(FRAMES), codec.encode(FRAMES))
    whole = (tmp_path / "fitted.npz").read_bytes()
    rng = np.random.default_rng(1)
    for content in (b"", b"text", whole[:-200], *(_flipped(whole, rng) for _ in range(60))):
        (tmp_path / "bad.npz").write_bytes(content)
        try:
            read_codecs(tmp_path / "bad.npz")
        except DecodeError as error:
            assert "bad.npz: not what was fitted" in str(error)
    np.savez(
        tmp_path / "bad.npz",
        version=np.int64(1),
        made_by=np.array("x"),
        names=np.array([{"a": 1}], object),
    )
    with pytest.raises(DecodeError, match="damaged"):
        read_codecs(tmp_path / "bad.npz")


def _flipped(content: bytes, rng) -> bytes:
    changed = bytearray(content)
    changed[int(rng.integers(len(changed)))] ^= int(rng.integers(1, 256))
    return bytes(changed)
