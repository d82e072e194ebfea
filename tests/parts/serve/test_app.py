"""Requests to a running service, as PaddleX's clients, browsers and curl send them."""

import base64
import json
import threading
from dataclasses import replace

import pytest

from paddlevideo.data.pipeline import StageError
from paddlevideo.sample import DecodeError
from paddlevideo.serve.decoder import Decoder
from paddlevideo.serve.settings import Limits
from paddlevideo.serve.timeline import TimelineFields
from tests.clips import write_clip
from tests.parts.serve.conftest import form

TOKEN = "a token of the tests, long enough"


def predicted(tiny, path, topk=3):
    [result] = tiny.predict(str(path), topk=topk)
    assert result.error is None
    return result


def assert_as_predicted(categories, result):
    assert [each["id"] for each in categories] == result.class_ids
    assert [each["name"] for each in categories] == result.label_names
    assert [each["score"] for each in categories] == pytest.approx(result.scores, abs=1e-5)
    assert all(each.keys() == {"id", "name", "score"} for each in categories)


def test_json_of_paddlex(serve, exported, tiny):
    path = exported.videos / "a.mp4"
    video = base64.b64encode(path.read_bytes()).decode()
    with serve() as client:
        answer = client.post_json({"video": video, "topk": 3})
        assert answer.result.keys() == {"categories"}
        assert_as_predicted(answer.result["categories"], predicted(tiny, path))
        # Other ways to write the same request.
        for request in (
            {"video": video},
            {"video": video, "topk": None},
            {"video": "data:video/mp4;base64," + video, "topk": 2, "fps": 1},
            {"video": "\n".join(video[i : i + 76] for i in range(0, len(video), 76)) + "\n"},
        ):
            best = client.post_json(request).result["categories"]
            assert_as_predicted(best, predicted(tiny, path, 2))  # INFERENCE.top_k
        details = client.post_json({"video": video, "details": True}).result
        assert details["model"] == "tiny"


def test_forms(serve, exported, tiny):
    with serve() as client:
        for path in exported.videos.rglob("*.*"):
            answer = client.post(path, name=path.name, topk=3)
            assert_as_predicted(answer.result["categories"], predicted(tiny, path))
        path = exported.videos / "a.mp4"
        body, kind = form(path, topk=3)
        headers = {"Content-Type": kind.replace("multipart/form-data", "Multipart/Form-DATA")}
        answer = client.ask("POST", "/video-classification", body, headers)
        assert_as_predicted(answer.result["categories"], predicted(tiny, path))
        assert client.ask("POST", "/timeline", body, headers).status == 200
        for name in ("", "x", "a.txt", "../../etc/passwd", "a.m3u8", 'b\\".mp4', "ü 影.mp4"):
            answer = client.post(path, name=name, topk=3)
            assert_as_predicted(answer.result["categories"], predicted(tiny, path))


def test_details_and_frames(serve, exported):
    with serve() as client:
        result = client.post(exported.videos / "a.mp4", details=1, frames=1, topk=1).result
    assert result["speed"].keys() == {"decode", "preprocess", "inference", "postprocess"}
    assert all(value >= 0 for value in result["speed"].values())
    assert result["speed"]["decode"] > 0 and result["speed"]["inference"] > 0
    assert result["model"] == "tiny" and "Paddle" in result["backend"]
    assert result["duration"] == pytest.approx(12 / 25)
    assert len(result["categories"]) == 1
    times = [frame["time"] for frame in result["frames"]]
    assert len(times) == 2 and times == sorted(times)
    for frame in result["frames"]:
        assert base64.b64decode(frame["jpeg"]).startswith(b"\xff\xd8")


WRONG_FIELDS = [
    ({"topk": "0"}, 422, "topk: '0'; expected an integer from 1"),
    ({"topk": "-1"}, 422, "topk"),
    ({"topk": "1.5"}, 422, "topk"),
    ({"topk": "five"}, 422, "topk"),
    ({"topk": "٣"}, 422, "topk"),
    ({"topk": "9" * 500}, 422, "topk"),
    ({"model": "other"}, 404, "there is no 'other'; this service has tiny"),
    ({"details": "maybe"}, 422, "details: 'maybe'; expected 0 or 1"),
    ({"frames": "2"}, 422, "frames"),
]


def test_wrong_fields(serve, exported):
    path = exported.videos / "a.mp4"
    video = base64.b64encode(path.read_bytes()).decode()
    with serve() as client:
        for fields, status, reason in WRONG_FIELDS:
            answer = client.post(path, **fields)
            assert answer.status == status and reason in answer.reason, fields
            assert client.post_json({"video": video, **fields}).status == status, fields


def test_files_that_are_no_videos(serve, exported, tmp_path):
    good = (exported.videos / "a.mp4").read_bytes()
    files = {
        b"": "the file is empty",
        b"\0": "no known video format",
        b"<html>": "no known video format",
        good[: len(good) // 3]: "cut short",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nx.ts\n": "",
        b"\x89PNG\r\n\x1a\n" + bytes(100): "",
    }
    with serve() as client:
        for data, reason in files.items():
            answer = client.post(data)
            assert answer.status == 422 and reason in answer.reason, data[:20]
            assert answer.reason.startswith("decode: ")
        answer = client.post(None, topk=1)
        assert answer.status == 422 and "no video; send it as the part named file" in answer.reason
        text = client.service.counters.text().decode()
    assert f'paddlevideo_refused_files_total{{reason="FileRefused"}} {len(files)}.0' in text


def test_limits_of_a_file(serve, exported, tmp_path):
    path = exported.videos / "a.mp4"
    size = path.stat().st_size
    cases = (
        (Limits(bytes=1000), 413, "larger than"),
        (Limits(seconds=0.2), 422, "s long; this service takes up to 0.2 s"),
        (Limits(pixels=48 * 64 - 1), 422, "pixels; this service takes up to 0.0 million"),
        (Limits(frames=11), 422, "it has 12 frames or more; this service takes up to 11"),
        (Limits(timeout=0.0001), 504, "after 0.0001 s"),
    )
    for limits, status, reason in cases:
        with serve(limits=limits) as client:
            body = client.post(path) if limits.bytes > size else client.post(bytes(100_000))
            assert body.status == status and reason in body.reason
    with serve(limits=Limits(bytes=size - 1)) as client:  # also where the body has room for it
        video = base64.b64encode(path.read_bytes()).decode()
        for answer in (
            client.post(path),
            client.post(path, "/timeline"),
            client.post_json({"video": video}),
        ):
            assert answer.status == 413 and "the file is larger than" in answer.reason
    exact = Limits(bytes=size, seconds=0.48, pixels=48 * 64, frames=12)
    with serve(limits=exact) as client:
        assert client.post(path).status == 200


def test_a_full_queue_answers_429(serve, exported):
    with serve(queue=1) as client, client.service.admitted():
        answer = client.post(exported.videos / "a.mp4")
        assert answer.status == 429 and "1 requests wait or run" in answer.reason
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert client.post(bytes(3_000_000)).status == 429  # also a long body gets its response
        assert client.get("/health").status == client.get("/models").status == 200
    with serve(queue=1) as client:
        for _ in range(3):
            assert client.post(exported.videos / "a.mp4").status == 200


def test_requests_at_once_run_together(serve, exported, tiny):
    paths = sorted(exported.videos.rglob("*.*")) * 4
    expected = {path: predicted(tiny, path) for path in set(paths)}
    answers = {}
    with serve(workers=4, batch_wait=2.0) as client:

        def send(number, path):
            answers[number] = client.post(path, topk=3)

        threads = [threading.Thread(target=send, args=each) for each in enumerate(paths)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        text = client.service.counters.text().decode()
    for number, path in enumerate(paths):
        assert_as_predicted(answers[number].result["categories"], expected[path])
    alone = 'paddlevideo_batch_videos_bucket{le="1.0",model="tiny"}'
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['paddlevideo_batch_videos_count{model="tiny"}']) == len(paths)
    assert float(lines[alone]) < len(paths)


def test_models_and_states(serve, tiny):
    with serve(models={"one": tiny, "two": tiny}) as client:
        answer = client.get("/models").json
        assert answer["default"] == "one"
        assert [model["name"] for model in answer["models"]] == ["one", "two"]
        assert answer["models"][0] == {
            "name": "one",
            "task": "video-classification",
            "classes": 3,
            "labels": ["appel", "birne", "kürbis"],
            "modalities": ["frames"],
            "multi_label": False,
            "backend": tiny.backend.name,
        }
        health = client.get("/health").json
        assert (health["errorCode"], health["errorMsg"]) == (0, "Healthy")
        assert client.get("/ready").status == 200
        client.service.ready = False
        assert client.get("/ready").status == 503
        assert client.post(b"x").status == 503
        client.service.ready = True
        metrics = client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain")
        assert b'paddlevideo_requests_total{path="/health",status="200"} 1.0' in metrics.body
        for path, status in (("/nothing", 404), ("/page/../app.py", 404), ("/page/x", 404)):
            assert client.get(path).status == status and client.get(path).reason
        assert client.ask("DELETE", "/models").status == 405


def test_descriptions_need_no_network(serve):
    with serve() as client:
        schema = client.get("/openapi.json").json
        docs = client.get("/docs")
    assert set(schema["paths"]) >= {"/video-classification", "/models", "/health", "/ready"}
    form = schema["paths"]["/video-classification"]["post"]["requestBody"]["content"]
    assert set(form) == {"application/json", "multipart/form-data"}
    fields = schema["paths"]["/timeline"]["post"]["requestBody"]["content"]["multipart/form-data"]
    fields = fields["schema"]["properties"]
    options = vars(TimelineFields.of({}, {"tiny": None}))
    for name in fields.keys() - {"file", "model"}:
        assert fields[name]["description"].endswith(f"default {options[name]:g}"), name
    text = docs.body.decode()
    assert "POST /video-classification" in text and "multipart/form-data" in text
    outside = text.replace("http://127.0.0.1:8000", "")
    assert "http" not in outside.partition("<body>")[2] and "<script" not in text


def test_headers_of_every_response(serve):
    with serve() as client:
        for path in ("/", "/health", "/nothing", "/docs"):
            headers = client.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in headers
        policy = client.get("/health").headers["content-security-policy"]
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy


def test_token(serve, exported):
    path = exported.videos / "a.mp4"
    with serve(token=TOKEN) as client:
        for value in ("", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN):
            answer = client.post(path, headers={"Authorization": value})
            assert answer.status == 401 and "needs a token" in answer.reason
            assert answer.headers["www-authenticate"] == "Bearer"
        for value in (f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
            assert client.post(path, headers={"Authorization": value}).status == 200
        for name in ("/models", "/metrics", "/docs", "/openapi.json", "/nothing"):
            assert client.get(name).status == 401
            assert client.get(name, Authorization=f"Bearer {TOKEN}").status != 401
        for name in ("/", "/health", "/ready", "/page/page.css"):
            assert client.get(name).status != 401


def test_other_sites_are_allowed_by_name_only(serve, exported):
    origin = "https://example.org"
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    with serve(allow_origins=(origin,), token=TOKEN) as client:
        answer = client.ask("OPTIONS", "/video-classification", headers=preflight)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == origin
        other = {**preflight, "Origin": "https://example.com"}
        assert client.ask("OPTIONS", "/video-classification", headers=other).status == 400
        answer = client.get("/models", Origin=origin, Authorization=f"Bearer {TOKEN}")
        assert answer.headers["access-control-allow-origin"] == origin
    with serve() as client:
        assert client.ask("OPTIONS", "/models", headers=preflight).status == 405


def test_pages_of_other_sites_are_refused(serve, exported):
    """A browser sends a form to any site without asking, so the service has to look."""
    path = exported.videos / "a.mp4"
    with serve(allow_origins=("https://example.org",)) as client:
        own = f"http://127.0.0.1:{client.port}"
        for origin in (
            "https://evil.example",
            "null",
            f"{own}0",
            "http://127.0.0.1",
            "x",
            "http://[",
        ):
            answer = client.post(path, headers={"Origin": origin})
            assert answer.status == 403 and "--allow-origin" in answer.reason, origin
        for origin in (own, "https://example.org"):
            assert client.post(path, headers={"Origin": origin}).status == 200


def test_a_site_whose_name_leads_to_this_machine(serve, exported):
    """DNS rebinding: origin and host agree, and both are the attacker's."""
    path = exported.videos / "a.mp4"

    def status(client, origin):
        host = origin.partition("://")[2]
        return client.post(path, headers={"Origin": origin, "Host": host}).status

    rebound = [f"http://{name}" for name in ("evil.example:8000", "a.evil.example", "1.2.3.4.x.y")]
    own = [
        *("http://localhost:8000", "http://a.localhost:80", "http://localhost.", "http://gpu-box"),
        *("http://127.0.0.1:8000", "http://192.168.1.5", "http://[::1]:8000"),
        "https://videos.example.org",  # behind a proxy with TLS
    ]
    with serve(loopback=True, allow_origins=("http://gpu.lan",)) as client:
        assert [status(client, origin) for origin in rebound] == [403] * len(rebound)
        assert [status(client, origin) for origin in own] == [200] * len(own)
        assert status(client, "http://gpu.lan") == 200
        assert client.post(path, headers={"Host": "gpu.example:80"}).status == 200  # no browser
    with serve(loopback=False) as client:
        assert status(client, "http://gpu.example:8000") == 200
    with serve(loopback=True, allow_origins=("*",)) as client:
        assert client.post(path, headers={"Origin": "https://a.example"}).status == 200
    with serve(loopback=True, token=TOKEN) as client:
        name = {"Host": "gpu.example:8000", "Authorization": f"Bearer {TOKEN}"}
        headers = {"Origin": "http://gpu.example:8000", **name}
        assert client.post(path, headers=headers).status == 200


@pytest.mark.parametrize("route", ["/video-classification", "/timeline"])
def test_paths_of_the_service_are_no_part_of_a_reason(serve, exported, monkeypatch, caplog, route):
    errors = (
        (lambda path: DecodeError(f"{path}: broken"), 422),
        (lambda path: StageError("Scale", f"broken: {path}"), 422),
        (lambda path: FileNotFoundError(f"{path}: broken"), 500),
        (lambda path: KeyError(path), 500),
    )
    with serve() as client:
        for error, status in errors:

            def fail(self, job, error=error):
                raise error(job.path)

            monkeypatch.setattr(Decoder, "__call__", fail)
            answer = client.post(exported.videos / "a.mp4", route)
            assert answer.status == status
            assert str(client.service.folder.path) not in answer.reason
            assert "broken" in answer.reason if status == 422 else "its log" in answer.reason
    assert "FileNotFoundError" in caplog.text and "KeyError" in caplog.text


def test_responses_name_their_request_in_the_log(serve, exported, caplog):
    caplog.set_level("INFO", "paddlevideo")
    with serve() as client:
        good = [client.post(exported.videos / "a.mp4").json["logId"] for _ in range(2)]
        bad = [client.post(b"").json["logId"], client.get("/nothing").json["logId"]]
    lines = [record.getMessage() for record in caplog.records]
    assert len({*good, *bad}) == 4
    for name, status in ((good[0], 200), (good[1], 200), (bad[0], 422), (bad[1], 404)):
        [line] = [each for each in lines if name in each]
        assert f" {status} " in line


def test_an_error_of_the_service_is_no_secret_of_it(serve, exported, monkeypatch):
    with serve() as client:
        monkeypatch.setattr(
            type(client.service), "_count", lambda *_: json.loads("broken: /secret/path")
        )
        answer = client.post(exported.videos / "a.mp4")
        assert answer.status == 500 and "secret" not in answer.reason
    full = replace(Limits(), bytes=1 << 20)
    with serve(limits=full) as client:

        def no_space(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("pathlib.Path.open", no_space)
        answer = client.post(exported.files and bytes(100))
        monkeypatch.undo()
        assert answer.status == 507 and answer.headers["retry-after"] == "60"


def test_a_video_without_times_has_no_duration(serve, tmp_path):
    path = write_clip(tmp_path / "raw.mp4", 5)
    with serve() as client:
        assert client.post(path, details=1).result["duration"] == pytest.approx(0.2)
