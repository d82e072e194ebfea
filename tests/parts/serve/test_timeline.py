"""POST /timeline: segments as JSON lines, while the file is decoded."""

import asyncio
import http.client
import json
import threading
import time

import numpy as np
import pytest

from paddlevideo.serve import timeline as timeline_module
from paddlevideo.serve.settings import Limits
from paddlevideo.timelines.files import video_frames
from paddlevideo.timelines.segments import merge
from paddlevideo.timelines.windows import TimelineModel
from tests.clips import write_clip
from tests.parts.serve.conftest import form


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Eight seconds of four textures."""
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (4, 48, 64, 3), np.uint8), 20, axis=0)
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", fps=10, frames=frames)


def lines(answer) -> list:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert answer.body.endswith(b"\n")
    return [json.loads(line) for line in answer.body.decode().splitlines()]


def segments(tiny, path, window, stride, *options):
    source = video_frames(path)
    windows = TimelineModel(tiny, window, stride).windows(source, fps=source.fps)
    return [segment.json for segment in merge(windows, tiny.labels, *options)]


def test_lines_are_those_of_the_timeline_of_a_file(serve, long, tiny):
    with serve() as client:
        for fields, options in (
            ({}, (2.0, 1.0)),
            ({"window": 1.0, "stride": 0.5, "min_score": 0.0, "topk": 3}, (1.0, 0.5, 0.0, 0.0, 3)),
            ({"window": 1, "min_duration": 1.5, "min_score": 0.2}, (1.0, 1.0, 0.2, 1.5, 1)),
        ):
            *found, last = lines(client.post(long, "/timeline", **fields))
            expected = segments(tiny, long, *options)
            assert [each["start"] for each in found] == [each["start"] for each in expected]
            for one, other in zip(found, expected, strict=True):
                assert one.keys() == {"start", "end", "class_ids", "scores", "label_names"}
                assert one["class_ids"] == other["class_ids"]
                assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
            assert last == {"done": True, "duration": 8.0, "segments": len(expected)}


def test_a_file_that_cannot_be_decoded_has_a_status(serve, long):
    data = long.read_bytes()
    with serve() as client:
        for content, reason in ((b"", "empty"), (b"no video", "no known"), (data[:500], "")):
            answer = client.post(content, "/timeline")
            assert answer.status == 422 and reason in answer.reason
        assert "no video; send it as the part" in client.post(None, "/timeline").reason
        assert client.post_json({"video": "AAAA"}, "/timeline").status == 415


WRONG_FIELDS = [
    {"window": "0"},
    {"window": "-1"},
    {"window": "nan"},
    {"window": "inf"},
    {"window": "1e9"},
    {"stride": "0.001"},
    {"stride": "x"},
    {"min_score": "1.1"},
    {"min_duration": "-0.1"},
    {"topk": "0"},
]


def test_wrong_fields(serve, long):
    with serve() as client:
        for fields in WRONG_FIELDS:
            answer = client.post(long, "/timeline", **fields)
            assert answer.status == 422 and next(iter(fields)) in answer.reason, fields


def test_a_limit_ends_a_timeline_with_an_error(serve, long):
    with serve(limits=Limits(frames=40)) as client:
        *found, last = lines(client.post(long, "/timeline", window=0.5, stride=0.5, min_score=0))
    assert found and last.keys() == {"error"}
    assert "it has 41 frames or more; this service takes up to 40" in last["error"]
    with serve(limits=Limits(seconds=5)) as client:
        answer = client.post(long, "/timeline")
        assert answer.status == 422 and "8.0 s long" in answer.reason


def test_more_timelines_than_allowed_get_429(serve, long):
    with serve(timelines=1) as client, client.service.admitted(timeline=True):
        answer = client.post(long, "/timeline")
        assert answer.status == 429 and "1 timelines run" in answer.reason
        assert answer.headers["retry-after"]
        assert client.post(long).status == 200  # the short requests have room


def test_windows_share_frames_as_those_of_a_file_do(serve, long, monkeypatch):
    """A file whose frames have one distance shares what a model of single frames computes."""
    asked = []
    real = TimelineModel.windows

    def windows(self, source, **options):
        asked.append(options)
        return real(self, source, **options)

    monkeypatch.setattr(TimelineModel, "windows", windows)
    with serve() as client:
        lines(client.post(long, "/timeline"))
    source = video_frames(long)
    assert source.constant_rate
    assert asked == [{"fps": source.fps, "constant_rate": True}]


def test_a_client_that_reads_slowly_makes_decoding_wait(serve, long, monkeypatch):
    """Segments that wait for their client must not fill the memory."""
    monkeypatch.setattr(timeline_module, "MAX_LINES", 2)
    put, gate, real = [], threading.Event(), timeline_module.merge

    def merged(*arguments):
        for segment in list(real(*arguments)) * 20:
            put.append(segment)
            yield segment

    async def slow(self, send, line):
        while line and not gate.is_set():
            await asyncio.sleep(0.01)
        await real_send(self, send, line)

    real_send = timeline_module.TimelineAnswer._send
    monkeypatch.setattr(timeline_module.TimelineAnswer, "_send", slow)
    monkeypatch.setattr(timeline_module, "merge", merged)
    answers = []
    with serve() as client:
        thread = threading.Thread(
            target=lambda: answers.append(client.post(long, "/timeline", min_score=0))
        )
        thread.start()
        deadline = time.monotonic() + 30
        while len(put) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        waiting = len(put)
        gate.set()
        thread.join(60)
    *found, last = lines(answers[0])
    assert last["segments"] == len(found) == len(put) >= 20
    assert waiting <= 4  # two in the queue, one that is sent, one that waits for room


def test_a_client_that_leaves_ends_its_timeline(serve, long, monkeypatch):
    body, kind = form(long.read_bytes(), window=0.2, stride=0.1, min_score=0)
    with serve(timelines=1) as client:
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
            connection.request("POST", "/timeline", body, {"Content-Type": kind})
            response = connection.getresponse()
            assert response.status == 200
            connection.close()
            deadline = time.monotonic() + 20
            while client.service._timelines and time.monotonic() < deadline:
                time.sleep(0.01)
            assert client.service._timelines == 0 and client.service.folder.files() == []
        assert lines(client.post(long, "/timeline"))[-1]["done"]
