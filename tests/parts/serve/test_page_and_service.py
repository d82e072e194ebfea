"""The page and a service that refuses, is busy, asks for a token or ends; and the webcam."""

import contextlib
import threading

import pytest

from tests.browser import browser_page, browser_path
from tests.parts.serve.page_examples import LISTENER, MODEL, ROWS, ball_clip, service_parts
from tests.parts.serve.stand_in import Answer, stand_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium; apt-get install chromium"),
]
STATUS = "document.getElementById('status').textContent"
ALERT = "document.getElementById('alert').textContent"
HOLD = threading.Event  # an answer that waits until the test lets it go
CAMERA = "--use-fake-ui-for-media-stream"  # allows the webcam; its frames are synthetic


@pytest.fixture
def open_page(tmp_path):
    """Return a function that starts a browser with some flags and opens the page of a service."""
    with contextlib.ExitStack() as stack:

        def start(service, *flags):
            page = stack.enter_context(browser_page(tmp_path / "profile", *flags))
            page.look()
            page.open(service.url)
            return page

        yield start


@pytest.fixture
def clip(tmp_path):
    return ball_clip(tmp_path / "a.mp4", 20)


def again(page, path="/video-classification", service=None, answer=None):
    """Let the service answer once with `answer`, and run again; waits for the end."""
    service.plan[path] = [answer]
    page.click("#again")
    page.wait(f"/^(Done|Failed)/.test({STATUS})")


REFUSALS = [
    (
        Answer(413, {"errorCode": 413, "errorMsg": "700 MB; at most 512 MB"}),
        "This file is larger than the service allows: 700 MB; at most 512 MB. "
        "Send a shorter or smaller file.",
    ),
    (
        Answer(422, {"errorCode": 422, "errorMsg": "no frame can be decoded"}),
        "The service cannot use this file: no frame can be decoded.",
    ),
    (
        Answer(422, {"detail": [{"loc": ["body", "topk"], "msg": "not a number"}]}),
        "The service cannot use this file: topk not a number.",
    ),
    (
        Answer(504, {"errorCode": 504, "errorMsg": "not done after 30 s"}),
        "This file takes longer than the service allows: not done after 30 s. "
        "Cut the file into shorter parts.",
    ),
    (
        Answer(404, {"errorCode": 404, "errorMsg": "model: there is no 'x'"}),
        "The service does not know this: model: there is no 'x'.",
    ),
    (Answer(500, {"errorMsg": "the service failed"}), "The service failed: the service failed."),
    (Answer(502, "<html>Bad gateway</html>"), "The service failed (HTTP 502)."),
    (Answer(418, ""), "The service refused the request (HTTP 418)."),
    (
        Answer(200, "<html>"),
        "The service answered with something other than JSON. Is a proxy in between?",
    ),
    (Answer(200, {"errorCode": 7, "errorMsg": "Not today"}), "Not today."),
    (Answer(200, {"errorCode": 0}), "The service answered without categories."),
    (
        Answer(200, None),
        "The service answered with something other than JSON. Is a proxy in between?",
    ),
]


def test_refusals_are_sentences(open_page, clip):
    with stand_in(**service_parts()) as service:
        page = open_page(service)
        page.choose("#files", [clip])
        page.wait(f"{STATUS}.startsWith('Done')")
        for answer, sentence in REFUSALS:
            again(page, service=service, answer=answer)
            assert page.text("#alert") == sentence
            assert page.text("#status") == "Failed." and page.text("#bar-note") == "No result."
        page.click("#again")
        page.wait(f"{STATUS}.startsWith('Done')")
        assert page.text("#alert").strip() == ""
        assert not [m for m in page.messages if not m.startswith("Failed to load resource")]


def test_failed_timelines_leave_the_classes(open_page, clip):
    broken = [
        (
            Answer(413, {"errorMsg": "too long"}),
            "This file is larger than the service allows: too long. "
            "Send a shorter or smaller file.",
        ),
        (Answer(rows=[*ROWS, {"error": "the decoder ended"}]), "the decoder ended."),
        (
            Answer(rows=ROWS),
            "The service broke off before the end of the timeline. Press Run again.",
        ),
    ]
    with stand_in(**service_parts()) as service:
        page = open_page(service)
        page.choose("#files", [clip])
        page.wait(f"{STATUS}.startsWith('Done')")
        assert page.text("#timeline-note").startswith("4 segments.")
        for answer, sentence in broken:
            again(page, "/timeline", service, answer)
            assert page.text("#timeline-note") == sentence
            assert page.text("#bar-rows").startswith("bouncing")
            count = page.run("document.querySelectorAll('#segment-rows tr').length")
            assert count == (0 if answer.rows is None else len(ROWS))
        again(page, "/timeline", service, Answer(rows=[{"done": True}]))
        assert page.text("#timeline-note") == "No segment has a class."
        page.click("#options summary")
        page.click("#with-timeline")
        num_asked = len(service.asked)
        again(page, "/none", service, Answer())
        assert len(service.asked) == num_asked + 1, "no timeline is asked for"
        assert page.text("#timeline-note") == "No timeline was made."


def test_a_connection_that_breaks_off_leaves_the_segments(open_page, clip):
    gate = HOLD()
    with stand_in(**service_parts()) as service:
        service.timelines[""] = Answer(rows=[*ROWS, gate], cut=True)
        page = open_page(service)
        page.choose("#files", [clip])
        rows = "document.querySelectorAll('#segment-rows tr').length"
        page.wait(f"{rows} === {len(ROWS)}")
        gate.set()
        page.wait(f"{STATUS}.startsWith('Done')")
        sentence = "The connection broke off before the end of the timeline. Press Run again."
        assert page.text("#timeline-note") == sentence
        assert page.run(rows) == len(ROWS) and page.text("#bar-rows").startswith("bouncing")


def test_segments_appear_while_they_are_computed(open_page, clip):
    gate = HOLD()
    rows, first = [ROWS[0], ROWS[1]], HOLD()
    with stand_in(**service_parts()) as service:
        service.timelines[""] = Answer(rows=[first, *rows, gate, {"done": True}])
        page = open_page(service)
        page.choose("#files", [clip])
        page.wait(f"{STATUS} === 'a.mp4: making the timeline'")
        # A class may last for the whole of a long video.
        assert page.text("#timeline-note") == "A segment appears when its class ends."
        first.set()
        page.wait("document.querySelectorAll('#segment-rows tr').length === 2")
        assert page.text("#timeline-note") == "2 segments so far"
        assert page.text("#status") == "a.mp4: making the timeline"
        gate.set()
        page.wait(f"{STATUS}.startsWith('Done')")
        assert page.text("#timeline-note").startswith("2 segments.")
        assert page.messages == []


def test_a_busy_service_is_asked_again(open_page, clip):
    gates = [HOLD() for _ in range(2)]
    busy = {"errorCode": 429, "errorMsg": "64 requests wait"}
    with stand_in(**service_parts()) as service:
        service.plan["/video-classification"] = [
            Answer(429, busy, {"Retry-After": "1"}),
            Answer(503, busy, {"Retry-After": "0"}, gate=gates[0]),
            Answer(429, busy, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}),
            Answer(429, busy, {}),
        ]
        page = open_page(service)
        page.choose("#files", [clip])
        page.wait(f"{STATUS} === 'The service is busy. Next try in 1 s.'")
        gates[0].set()
        page.wait(f"{STATUS}.startsWith('Done')")
        paths = [path for path, *_ in service.asked]
        assert paths == ["/video-classification"] * 5 + ["/timeline"]
        service.plan["/video-classification"] = [Answer(429, busy, {"Retry-After": "60"})]
        page.click("#again")
        page.wait(f"{STATUS} === 'The service is busy. Next try in 60 s.'")
        page.click("#cancel")
        page.wait(f"{STATUS} === 'Cancelled.'")
        assert page.run("document.getElementById('cancel').hidden")


def test_cancel_and_run_again(open_page, tmp_path):
    gate = HOLD()
    files = [ball_clip(tmp_path / name, 20) for name in ("a.mp4", "b.mp4")]
    with stand_in(**service_parts()) as service:
        service.plan["/video-classification"] = [Answer(gate=gate, body={})]
        page = open_page(service)
        page.choose("#files", files)
        page.wait("!document.getElementById('cancel').hidden")
        page.wait(f"{STATUS}.startsWith('1 of 2, a.mp4: sending')")
        page.click("#cancel")
        page.wait(f"{STATUS} === 'Cancelled.'")
        gate.set()
        states = "[...document.querySelectorAll('.state')].map((cell) => cell.textContent)"
        assert page.run(states) == ["cancelled", "cancelled"]
        assert page.text("#alert").strip() == ""
        page.click("#again")
        page.wait(f"{STATUS} === '2 files done.'")
        assert page.run(states) == ["done", "done"]
        assert page.messages == []


def test_a_service_that_ended(open_page, clip):
    down = (
        "The service does not answer. Start it again, or check the network, then press Run again."
    )
    with stand_in(**service_parts()) as service:
        page = open_page(service)
        page.wait("!document.getElementById('model').disabled")
        service.plan["/video-classification"] = [Answer(cut=True)] * 20  # the browser tries again
        page.choose("#files", [clip])
        page.wait(f"{STATUS} === 'Failed.'")
        assert page.text("#alert").startswith("The connection broke off while the file was sent.")
    page.click("#again")
    page.wait(f"{ALERT} === {down!r}")
    assert page.text("#status") == "Failed."


def test_a_service_that_is_down_at_first(open_page, clip):
    with stand_in(**service_parts()) as service:
        service.plan["/models"] = [
            Answer(500, {"errorMsg": "no model"}),
            Answer(200, {"models": []}),
        ]
        page = open_page(service)
        page.wait(f"{ALERT} === 'The service failed: no model.'")
        page.choose("#files", [clip])
        page.wait(f"{ALERT}.startsWith('The service has no model.')")
        page.click("#again")
        page.wait(f"{STATUS}.startsWith('Done')")
        assert page.text("#alert").strip() == ""
        service.models = [LISTENER]  # started again with another model
        page.click("#again")
        page.wait(f"{STATUS}.startsWith('Done') && document.getElementById('cancel').hidden")
        assert service.asked[-1][1]["model"] == "noises"


def test_a_token_is_asked_for_only_where_it_is_needed(open_page, clip):
    with stand_in(**service_parts(token="secret")) as service:
        page = open_page(service)
        page.wait("!document.getElementById('token-form').hidden")
        page.wait("document.activeElement.id === 'token'")
        assert page.text("#status") == "The service asks for a token."
        page.type("wrong")
        page.press("Enter")
        page.wait("document.getElementById('token-note').textContent.includes('refused')")
        page.type("secret")
        page.press("Enter")
        page.wait("!document.getElementById('model').disabled")
        assert page.run("document.getElementById('token-form').hidden")
        page.choose("#files", [clip])
        page.wait(f"{STATUS}.startsWith('Done')")
        assert page.run("localStorage.length + sessionStorage.length + document.cookie.length") == 0
        service.token = "another"
        page.click("#again")
        page.wait("!document.getElementById('token-form').hidden")
        page.click("#cancel")
        page.wait("document.getElementById('token-form').hidden")
        page.wait(f"{STATUS} === 'Cancelled.'")


def test_wrong_options_are_named(open_page, clip):
    with stand_in(**service_parts()) as service:
        page = open_page(service)
        page.run("document.getElementById('topk').value = '0'")
        page.choose("#files", [clip])
        page.wait(f"{STATUS} === 'Failed.'")
        assert page.text("#alert").startswith("Classes shown: ")
        assert page.run("document.getElementById('options').open")
        for name, value in (("topk", 2), ("window", 2), ("stride", 0.5), ("min-score", 0.25)):
            page.run(f"document.getElementById('{name}').value = '{value}'")
        page.click("#again")
        page.wait(f"{STATUS}.startsWith('Done')")
        sent = {"topk": "2", "model": "balls"}
        assert [fields for _, fields, _, _ in service.asked] == [
            {**sent, "details": "1", "frames": "1"},
            {**sent, "window": "2", "stride": "0.5", "min_score": "0.25"},
        ]
        assert page.run("document.querySelectorAll('#bar-rows tr').length") == 2
        assert page.messages == []


def test_the_webcam_sends_clips(open_page):
    with stand_in(**service_parts(models=[MODEL, LISTENER])) as service:
        page = open_page(service, CAMERA)
        page.wait("!document.getElementById('model').disabled")
        page.run("document.getElementById('clip-seconds').value = '1'")
        page.click("#webcam")
        page.wait("document.getElementById('player').srcObject?.active")
        assert page.text("#webcam") == "Stop the webcam" and page.text("#result-title") == "Webcam"
        page.wait("document.querySelectorAll('#list-rows tr').length >= 2")
        page.wait(f"{STATUS}.startsWith('Webcam: bouncing')")
        assert page.run("document.getElementById('player').srcObject.active")
        assert page.text("#bar-rows").startswith("bouncing")
        page.click("#list-rows button")
        page.wait("document.getElementById('player').currentSrc.startsWith('blob:')")
        page.click("#live")
        page.wait("document.getElementById('player').srcObject?.active")
        page.click("#webcam")
        page.wait("document.getElementById('webcam').textContent === 'Use the webcam'")
        page.wait("document.getElementById('player').srcObject === null")
        names = {name for _, _, name, _ in service.asked}
        assert all(name.startswith("webcam_") and name.endswith(".webm") for name in names)
        assert {path for path, *_ in service.asked} == {"/video-classification"}
        assert all(size > 1000 for *_, size in service.asked)
        assert page.messages == []


def test_the_webcam_never_lags(open_page):
    """Clips that would have to wait are dropped while the service is slow."""
    gate = HOLD()
    with stand_in(**service_parts()) as service:
        service.plan["/video-classification"] = [
            Answer(gate=gate, body={"errorMsg": "x", "errorCode": 1})
        ]
        page = open_page(service, CAMERA)
        page.wait("!document.getElementById('model').disabled")
        page.run("document.getElementById('clip-seconds').value = '1'")
        page.click("#webcam")
        rows = "[...document.querySelectorAll('#list-rows tr')].map((row) => row.innerText)"
        page.wait(f"{rows}.length === 3")
        first = page.run(rows)
        page.wait(f"{rows}[2] !== {first[2]!r}")
        assert len(page.run(rows)) == 3 and page.run(rows)[0] == first[0]
        page.click("#cancel")
        page.wait(f"{STATUS} === 'Cancelled.'")
        gate.set()


def test_the_webcam_is_denied(open_page):
    with stand_in(**service_parts()) as service:
        page = open_page(service)
        for name in ("camera", "microphone"):
            page.command("Browser.setPermission", permission={"name": name}, setting="denied")
        page.click("#webcam")
        page.wait(f"{ALERT}.startsWith('The browser does not let this page use the webcam.')")
        assert page.text("#webcam") == "Use the webcam"
        page.run("delete Navigator.prototype.mediaDevices")
        page.click("#webcam")
        page.wait(f"{ALERT}.startsWith('The browser gives the webcam only to https pages')")
        assert page.messages == []
