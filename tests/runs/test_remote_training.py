"""A training on lists and videos of an S3 server equals the one on local files, bit by bit."""

import pytest

from paddlevideo.api import train
from paddlevideo.engine.build import load_config
from tests.conftest import small_config
from tests.remote_files import S3Files, s3_server, use_s3
from tests.runs.test_train import losses_of, weights_of


def lists(clips, folder, prefix: str) -> dict[str, str]:
    """Write a list per split with labels; {split: its text}."""
    names = sorted({path.parent.name for path in (clips / "train").glob("*/*.mp4")})
    return {
        split: "".join(
            f"{prefix}{path.relative_to(clips).as_posix()} {names.index(path.parent.name)}\n"
            for path in sorted((clips / split).glob("*/*.mp4"))
        )
        for split in ("train", "val")
    }


def config(clips, folder, place: str, *overrides: str):
    folder.mkdir()
    splits = [f"DATASET.{key}.file_path={place}/{name}.list" for key, name in SPLITS.items()]
    # The data set has its own test split, which this training does not read.
    options = ["DATASET.num_workers=2", "epochs=1", "DATASET.test=null", *splits, *overrides]
    return load_config(small_config(clips, folder), options)


SPLITS = {"train": "train", "valid": "val"}


@pytest.mark.slow
def test_training_from_s3_equals_training_from_files(clips, tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    local = lists(clips, tmp_path, f"{clips}/")
    for split, text in local.items():
        (tmp_path / "lists" / f"{split}.list").write_text(text)
    expected = config(clips, tmp_path / "local", f"{tmp_path}/lists")
    train(expected, validate=True)
    with s3_server() as endpoint:
        s3 = S3Files(endpoint)
        use_s3(s3, monkeypatch)
        for path in clips.rglob("*.mp4"):
            s3.put(f"data/{path.relative_to(clips).as_posix()}", path.read_bytes())
        for split, text in lists(clips, tmp_path, "").items():
            s3.put(f"data/{split}.list", text)
        found = config(
            clips, tmp_path / "remote", f"{s3.url}/data", f"DATASET.cache_dir={tmp_path}/cache"
        )
        train(found, validate=True)
    assert weights_of(found) == weights_of(expected)
    assert losses_of(found) == losses_of(expected)
    assert list((tmp_path / "cache").rglob("*-0"))
