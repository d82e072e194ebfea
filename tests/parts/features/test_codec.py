"""The feature codec: principal components, whitening, 8 bits, and its file."""

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
# Far from 0, so that small differences of large numbers matter.
FRAMES = (RNG.standard_normal((500, 6)) @ MIX.T + 1000).astype(np.float32)


def moments_of(frames=FRAMES, parts=7):
    moments = Moments(frames.shape[1])
    for part in np.array_split(frames, parts):
        moments.add(part)
    return moments


def test_moments_equal_those_of_all_frames():
    mean, covariance = moments_of().mean_and_covariance()
    exact = FRAMES.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(exact.T, bias=True), rtol=1e-9)


def test_moments_ignore_empty_videos():
    moments = moments_of()
    moments.add(np.zeros((0, 6)))
    assert moments.count == 500


def test_moments_need_two_frames():
    with pytest.raises(ValueError, match="1 frames to fit on; at least two"):
        moments_of(FRAMES[:1], 1).mean_and_covariance()


def test_whitens_each_value_without_components():
    codec = fit(moments_of())
    stored = codec.encode(FRAMES)
    assert stored.dtype == np.uint8 and stored.shape == (500, 6) and codec.size == 6
    exact = FRAMES.astype(np.float64)
    values = (exact - exact.mean(0)) / (exact.std(0) + EPSILON)
    np.testing.assert_allclose(stored * 4.0 / 255 - 2, values.clip(-2, 2), atol=0.5 / LEVELS + 1e-3)
    assert stored.min() == 0 and stored.max() == 255, "values beyond two std are clipped"


def test_components_are_uncorrelated_and_sorted():
    codec = fit(moments_of(), 4)
    values = (FRAMES - codec.mean) @ codec.components
    covariance = np.cov(values.astype(np.float64).T, bias=True)
    variance = np.diag(covariance)
    np.testing.assert_allclose(np.sqrt(variance) + EPSILON, codec.scale, rtol=1e-3)
    assert (np.diff(codec.scale) < 0).all()
    assert np.abs(covariance - np.diag(variance)).max() < 1e-2


def test_components_do_not_depend_on_the_order_of_summation():
    codec = fit(moments_of(), 4)
    strongest = np.abs(codec.components).argmax(0)
    assert (codec.components[strongest, np.arange(4)] > 0).all(), "the sign is fixed"
    again = fit(moments_of(parts=3), 4)
    np.testing.assert_allclose(again.components, codec.components, atol=1e-5)


@pytest.mark.parametrize("components", [None, 6])
def test_decodes_what_was_encoded(components):
    codec, frames = fit(moments_of(), components), FRAMES[:50]
    stored = codec.encode(frames)
    not_clipped = np.abs(stored.astype(int) - 127.5).max(1) < 127
    error = np.abs(codec.decode(stored) - frames)[not_clipped]
    assert not_clipped.sum() > 10 and error.max() < np.abs(codec.scale).sum() / LEVELS


def test_nextvlad_undoes_the_whitening_with_scale():
    """The model multiplies its input by `scale`, which restores the std of the components."""
    codec = fit(moments_of(), 3)
    restored = (codec.encode(FRAMES) * 4.0 / 255 - 2) * codec.scale
    exact = (FRAMES - codec.mean) @ codec.components
    not_clipped = np.abs(exact) < 1.9 * codec.scale
    error = np.abs(restored - exact)[not_clipped]
    assert error.max() <= 0.51 * codec.scale.max() / LEVELS + 1e-3


def test_rejects_too_many_components():
    message = "9 principal components of 6 values in 500 frames; at most 6"
    with pytest.raises(ValueError, match=message):
        fit(moments_of(), 9)
    with pytest.raises(ValueError, match="at most 3 can be fitted"):
        fit(moments_of(FRAMES[:4], 1), 4)


def test_rejects_features_of_another_network():
    message = r"frames are \[5, 4\], expected \[T, 6\]: they are features of another network"
    with pytest.raises(ValueError, match=message):
        fit(moments_of()).encode(FRAMES[:5, :4])


def test_rejects_values_that_are_not_finite():
    with pytest.raises(ValueError, match="returned values that are not finite"):
        fit(moments_of()).encode(np.full((2, 6), np.nan))


def test_rejects_inconsistent_arrays():
    with pytest.raises(ValueError, match=r"shapes \(\(6,\), None, \(5,\)\); expected \[D\]"):
        Codec(np.zeros(6), None, np.ones(5))
    with pytest.raises(ValueError, match="standard deviation of 0"):
        Codec(np.zeros(6), None, np.zeros(6))
    with pytest.raises(ValueError, match="not finite"):
        Codec(np.full(6, np.inf), None, np.ones(6))


# --- the file -----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    codecs = {"rgb": fit(moments_of(), 4), "audio": fit(moments_of())}
    write_codecs(tmp_path / "fitted.npz", codecs, "network 1")
    return tmp_path / "fitted.npz"


def test_reads_what_was_written(file):
    codecs, made_by = read_codecs(file)
    assert made_by == "network 1" and list(codecs) == ["rgb", "audio"]
    assert codecs["audio"].components is None
    for name, num_components in (("rgb", 4), ("audio", None)):
        expected = fit(moments_of(), num_components).encode(FRAMES)
        np.testing.assert_array_equal(codecs[name].encode(FRAMES), expected)


def test_rejects_damaged_files(file, tmp_path):
    content, rng = file.read_bytes(), np.random.default_rng(1)
    for damaged in (b"", b"text", content[:-200]):
        (tmp_path / "bad.npz").write_bytes(damaged)
        with pytest.raises(DecodeError, match=r"bad\.npz: not a file of feature codecs"):
            read_codecs(tmp_path / "bad.npz")
    for _ in range(60):
        changed = bytearray(content)
        changed[int(rng.integers(len(changed)))] ^= int(rng.integers(1, 256))
        (tmp_path / "bad.npz").write_bytes(changed)
        try:  # some bytes do not matter
            read_codecs(tmp_path / "bad.npz")
        except DecodeError as error:
            assert "bad.npz: not a file of feature codecs" in str(error)


def test_never_reads_pickled_objects(tmp_path):
    names = np.array([{"a": 1}], object)
    np.savez(tmp_path / "bad.npz", version=np.int64(1), made_by=np.array("x"), names=names)
    with pytest.raises(DecodeError, match="damaged"):
        read_codecs(tmp_path / "bad.npz")
