"""The page, a browser, and the real service with a small exported model."""

import pytest

from tests.browser import browser_page, browser_path
from tests.clips import write_clip
from tests.parts.conftest import NAMES
from tests.parts.serve.stand_in import PAGE

ENDED = "/^Done|Failed/.test(document.getElementById('status').textContent)"


def test_the_service_has_the_page_and_its_policy(serve):
    """The policy of the header allows what that of the page allows, and both are strict."""
    with serve() as client:
        index = client.get("/")
        html = index.body.decode()
        assert html == (PAGE / "index.html").read_text(encoding="utf-8")
        own = html.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
        sent = index.headers["content-security-policy"]
        assert set(own.split("; ")) <= set(sent.split("; ")) and "unsafe" not in sent
        types = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
        for file in PAGE.iterdir():
            answer = client.get(f"/page/{file.name}")
            assert answer.status == 200 and answer.body == file.read_bytes()
            assert answer.headers["content-type"].startswith(types.get(file.suffix, "text/html"))
        assert client.get("/page/none.js").status == 404
        assert client.get("/page/..%2Fapp.py").status == 404


@pytest.mark.slow
@pytest.mark.skipif(browser_path() is None, reason="no Chromium; apt-get install chromium")
def test_classes_frames_timeline_and_refusals(serve, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 150)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:200])
    with serve() as client, browser_page(tmp_path / "profile") as page:
        page.look()
        page.open(f"http://127.0.0.1:{client.port}/")
        page.choose("#files", [clip])
        page.wait(ENDED)
        expected = client.post(clip, topk=3, details=1, frames=1).result
        bars = "[...document.querySelectorAll('#bar-rows .name')].map((e) => e.textContent)"
        assert page.run(bars) == [row["name"] for row in expected["categories"]]
        assert set(page.run(bars)) == set(NAMES)
        assert page.text("#model-facts").startswith("3 classes · frames · ")
        frames = "document.querySelectorAll('#frames img').length"
        assert page.run(frames) == len(expected["frames"]) > 0
        assert "inference" in page.text("#legend")
        assert "segment" in page.text("#timeline-note")
        assert page.run("document.querySelectorAll('#segment-rows tr').length") > 0
        assert page.text("#time-end") == "0:06.0"
        page.choose("#files", [broken])
        page.wait("document.getElementById('status').textContent.includes('failed')")
        page.click("#list-rows tr:nth-child(2) button")
        page.wait("document.getElementById('result-title').textContent === 'broken.mp4'")
        assert page.text("#alert").startswith("The service cannot use this file: ")
        policy = [m for m in page.messages if not m.startswith("Failed to load resource")]
        assert policy == []


@pytest.mark.slow
@pytest.mark.skipif(browser_path() is None, reason="no Chromium; apt-get install chromium")
def test_webcam_clips_are_classified(serve, tmp_path):
    """Clips of the browser's recorder have no duration in their header."""
    flag = "--use-fake-ui-for-media-stream"
    with serve() as client, browser_page(tmp_path / "profile", flag) as page:
        page.open(f"http://127.0.0.1:{client.port}/")
        page.wait("!document.getElementById('model').disabled")
        page.run("document.getElementById('clip-seconds').value = '1'")
        page.click("#webcam")
        page.wait("document.getElementById('status').textContent.startsWith('Webcam: ')")
        assert page.run("document.querySelectorAll('#frames img').length") > 0
        page.click("#cancel")
        page.click("#webcam") if page.text("#webcam") == "Stop the webcam" else None
        page.wait("document.getElementById('cancel').hidden")
        assert page.messages == []
