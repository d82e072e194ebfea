"""What ranks compare before any work; the ranks are threads."""

import logging
import platform
import shutil

import numpy as np
import paddle
import pytest

from paddlevideo.config.schema import Cache
from paddlevideo.data.datasets import RecordList
from paddlevideo.engine import same_ranks
from paddlevideo.engine.build import build_model, load_config
from paddlevideo.engine.checkpoint import Progress, TrainState, read_progress
from paddlevideo.engine.same_ranks import (
    LOCAL_KEYS,
    RanksDiffer,
    block_digests,
    check_lists,
    check_ranks,
    common_state,
    flat,
    source_digests,
)
from paddlevideo.sample import Record
from paddlevideo.weights import WeightsError, write_arrays
from tests.ranks import run_ranks

HOST = platform.node()


def messages(results: list) -> set[str]:
    """The messages of the errors of all ranks, which are of one kind."""
    assert all(isinstance(result, RanksDiffer) for result in results), results
    return {str(result) for result in results}


# --- config and code ------------------------------------------------------------------------------


def check_configs(monkeypatch, configs, flags=None) -> list:
    flags = flags or [{}] * len(configs)
    return run_ranks(
        monkeypatch, lambda rank: check_ranks(configs[rank], flags[rank]), len(configs)
    )


DIFFERENT = [
    ("DATASET.batch_size=5", "DATASET.batch_size is 5 (rank 0: 3)"),
    ("epochs=7", "epochs is 7 (rank 0: 2)"),
    ("seed=3", "seed is 3 (rank 0: not given)"),
    ("MODEL.head.drop_ratio=0.5", "MODEL.head.drop_ratio is 0.5 (rank 0: 0.3)"),
    ("DATASET.train.format=FrameDataset", 'DATASET.train.format is "FrameDataset" (rank 0: "Vid'),
    ("MIX=null", "MIX.alpha is not given (rank 0: 0.2), MIX.name is not given (rank 0: "),
    (
        "PIPELINE.train.transform.0.Scale.short_size=40",
        "PIPELINE.train.transform.0.Scale.short_size is 40 (rank 0: 36)",
    ),
]


@pytest.mark.parametrize(("override", "text"), DIFFERENT)
def test_another_config_is_named_on_every_rank(monkeypatch, small, override, text):
    results = check_configs(monkeypatch, [small(), small(), small(override)])
    (message,) = messages(results)
    start = f"the config differs from that of rank 0 on {HOST}: rank 2 on {HOST}: "
    assert message.startswith(start + text), message
    assert message.endswith("; give all ranks the same config and flags")


def test_another_config_of_rank_0_is_named(monkeypatch, small):
    (message,) = messages(check_configs(monkeypatch, [small("epochs=9"), small(), small()]))
    assert "rank 1 on" in message and "rank 2 on" in message and "(rank 0: 9)" in message


def test_other_flags_are_named(monkeypatch, small):
    cfg, flags = small(), [{"validate": True}, {"validate": False}]
    (message,) = messages(check_configs(monkeypatch, [cfg, cfg], flags))
    assert "rank 1 on" in message and "flag validate is false (rank 0: true)" in message


def test_many_differences_are_counted(monkeypatch, small):
    keys = [f"DATASET.{key}=17" for key in ("batch_size", "valid_batch_size", "test_batch_size")]
    other = small(*keys, "epochs=1", "log_interval=17", "save_interval=17")
    (message,) = messages(check_configs(monkeypatch, [small()] + [other] * 7))
    assert "2 more" in message and "and 3 more ranks" in message


LOCAL = [
    "output_dir=elsewhere",
    "DATASET.num_workers=3",
    "DATASET.train.file_path=/local1/train.list",
    "use_gpu=false",
    "hang_minutes=5",
]


def test_machines_may_differ_in_what_is_theirs(monkeypatch, small):
    assert check_configs(monkeypatch, [small(), small(*LOCAL)]) == [None, None]


def test_local_keys_exist(small):
    """A renamed key would be compared again."""
    cfg = load_config(small().origin.path, ["DATASET.root=x"])
    known = {*vars(cfg), *vars(cfg.DATASET), *vars(Cache()), "_base_", "file_path", "data_prefix"}
    assert known | {"pretrained", "cache"} >= LOCAL_KEYS


def test_a_config_is_flat_and_complete():
    data = {"A": {"b": [1, {"c": None}], "d": {}}, "output_dir": "x", "e": "ü"}
    assert flat(data) == {"A.b.0": "1", "A.b.1.c": "null", "A.d": "{}", "e": '"ü"'}


@pytest.mark.parametrize("name", ["engine/train.py", "zoo/models.yaml", "__init__.py"])
def test_other_code_is_named(monkeypatch, small, name):
    own = source_digests()
    assert len(own[name]) == 8
    codes = iter([own, {**own, name: "changed"}])
    monkeypatch.setattr(same_ranks, "source_digests", lambda: next(codes))
    (message,) = messages(check_configs(monkeypatch, [small(), small()]))
    assert message.startswith("the code differs from that of rank 0") and f" {name} is " in message
    assert message.endswith("install the same version of paddlevideo on all machines")


def test_another_version_of_a_package_is_a_warning(monkeypatch, small, caplog):
    found = iter([{"numpy": "1"}, {"numpy": "2", "av": "3"}])
    monkeypatch.setattr(same_ranks, "versions", lambda: next(found))
    with caplog.at_level(logging.WARNING, "paddlevideo"):
        assert check_configs(monkeypatch, [small(), small()]) == [None, None]
    assert "versions of packages differs" in caplog.text and "numpy" in caplog.text


def test_one_process_compares_nothing(monkeypatch, small):
    monkeypatch.setattr(same_ranks, "source_digests", lambda: pytest.fail("work for nothing"))
    check_ranks(small(), {})


# --- data -----------------------------------------------------------------------------------------


def records(count: int, folder: str = "/data") -> list[Record]:
    return [Record(f"{folder}/class/clip {i}.mp4", label=i % 3) for i in range(count)]


def check_records(monkeypatch, small, lists, names=(None, None)) -> list:
    cfg = small()
    return run_ranks(
        monkeypatch,
        lambda rank: check_lists(cfg, {"train": RecordList(lists[rank], names[rank])}),
    )


def test_the_same_lists_may_be_in_other_folders(monkeypatch, small):
    lists = [records(12), records(12, "/local1/copy")]
    assert check_records(monkeypatch, small, lists) == [None, None]


def test_a_shorter_list_is_named(monkeypatch, small):
    (message,) = messages(check_records(monkeypatch, small, [records(12), records(11)]))
    assert f"rank 0 on {HOST} has 12 records" in message and "train" in message
    assert f"rank 1 on {HOST} has 11 records in " in message
    assert message.endswith("; give all machines the same list")


@pytest.mark.parametrize("count", [1, 12, 1000])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_the_first_other_record_is_named(monkeypatch, small, count, place):
    other = records(count)
    number = int(place * count)
    other[number] = Record("/data/class/another.mp4", label=2)
    if number + 3 < count:
        other[number + 3] = Record("/data/class/later.mp4", label=2)
    (message,) = messages(check_records(monkeypatch, small, [records(count), other]))
    assert f"the first difference is record {number + 1}: class/another.mp4 label 2" in message
    assert f"on rank 1, class/clip {number}.mp4 label {number % 3} on rank 0" in message


CHANGED = [
    {"label": 5},
    {"labels": (1, 2), "label": None},
    {"start_sec": 1.5},
    {"num_frames": 9},
    {"offset": 3},
]


@pytest.mark.parametrize("change", CHANGED, ids=str)
def test_every_part_of_a_record_counts(monkeypatch, small, change):
    other = [Record("/data/class/clip 0.mp4", **{"label": 0, **change})]
    (message,) = messages(check_records(monkeypatch, small, [records(1), other]))
    assert "the first difference is record 1" in message


def test_another_order_of_the_same_records_is_found(monkeypatch, small):
    results = check_records(monkeypatch, small, [records(12), records(12)[::-1]])
    assert "the first difference is record 1" in next(iter(messages(results)))


def test_other_class_names_are_named(monkeypatch, small):
    lists, names = [records(3), records(3)], (["a", "b", "c"], ["a", "c", "b"])
    (message,) = messages(check_records(monkeypatch, small, lists, names))
    assert "class names of DATASET.train" in message and "1 is c (rank 0: b)" in message


def test_the_digests_of_shards_read_few_records():
    class Shards:
        asked = 0

        def __len__(self):
            return 1_000_000

        def __getitem__(self, number):
            self.asked += 1
            return Record(f"shard/{number // 1000}.tfrecord", offset=number)

    shards = Shards()
    assert len(set(block_digests(shards))) == same_ranks.BLOCKS == shards.asked


# --- the state ------------------------------------------------------------------------------------


@pytest.fixture
def state(small, tmp_path):
    """`state(folder, epoch)`: a state in that folder, as a run writes it."""
    cfg = small()
    model = build_model(cfg, 3)
    optimizer = cfg.OPTIMIZER.make().build(model.named_parameters())
    scaler = paddle.amp.GradScaler(enable=False)

    def write(folder, epoch: int):
        path = tmp_path / folder / "ppTSN_latest.pdstate"
        path.parent.mkdir(exist_ok=True)
        TrainState(model, optimizer, scaler, Progress(epoch=epoch, step=2)).save(path)
        return path

    return write


def resumed(monkeypatch, tmp_path, resume="auto") -> list:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    return run_ranks(monkeypatch, lambda rank: common_state(folders[rank], "ppTSN", resume))


def test_a_shared_state_is_used_as_it_is(monkeypatch, state, tmp_path):
    path = state("a", 3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert resumed(monkeypatch, tmp_path) == ["auto", "auto"]
    assert resumed(monkeypatch, tmp_path, str(path)) == [str(path)] * 2
    assert resumed(monkeypatch, tmp_path, None) == [None, None]


@pytest.mark.parametrize("own", [None, 1, 9])
def test_a_rank_without_the_state_of_rank_0_receives_it(monkeypatch, state, tmp_path, own, caplog):
    if own is not None:
        state("b", own)  # of another time
    path = state("a", 3)
    with caplog.at_level(logging.WARNING, "paddlevideo"):
        assert resumed(monkeypatch, tmp_path) == ["auto", "auto"]
    copy = tmp_path / "b" / path.name
    assert copy.read_bytes() == path.read_bytes() and read_progress(copy) == (3, 2)
    assert (
        "did not have the state of rank 0" in caplog.text and "3 epochs and 2 steps" in caplog.text
    )


def test_a_named_state_is_sent_to_machines_without_it(monkeypatch, state, tmp_path):
    path = state("elsewhere", 3)
    content, missing = path.read_bytes(), tmp_path / "missing.pdstate"
    paths = [str(path), str(missing)]
    results = run_ranks(
        monkeypatch, lambda rank: common_state(tmp_path / "ab"[rank], "ppTSN", paths[rank])
    )
    assert results == [str(path), "auto"]
    assert (tmp_path / "b" / path.name).read_bytes() == content


def test_no_state_anywhere_starts_from_the_beginning(monkeypatch, tmp_path):
    assert resumed(monkeypatch, tmp_path) == ["auto", "auto"]


def test_a_state_that_rank_0_lacks_is_an_error_everywhere(monkeypatch, state, tmp_path):
    state("b", 3)
    results = resumed(monkeypatch, tmp_path)
    assert all(isinstance(result, WeightsError) for result in results)
    (message,) = {str(result) for result in results}
    assert f"rank 0 on {HOST} has no state in " in message and "rank 1 on" in message
    assert "(3 epochs and 2 steps)" in message and "--rank=0" in message


def test_a_named_state_that_rank_0_lacks_is_an_error_everywhere(monkeypatch, tmp_path):
    results = resumed(monkeypatch, tmp_path, str(tmp_path / "no.pdstate"))
    assert all("expected a .pdstate file" in str(result) for result in results)


def test_the_progress_of_another_file_is_an_error(tmp_path):
    write_arrays(tmp_path / "x.pdstate", {"a": np.zeros(2, np.float32)})
    with pytest.raises(WeightsError, match=r"x\.pdstate: not the state of a run; use -w"):
        read_progress(tmp_path / "x.pdstate")
