"""The page in a real browser: results, files, names, the look, the keyboard."""

import json

import pytest

from tests.browser import browser_page, browser_path
from tests.parts.serve.page_examples import (
    DAMAGED,
    LISTENER,
    NAMES,
    ROWS,
    TAGGER,
    ball_clip,
    result,
    segment,
    service_parts,
)
from tests.parts.serve.stand_in import Answer, stand_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium; apt-get install chromium"),
]
DONE = "document.getElementById('status').textContent.startsWith('Done')"
ALL_DONE = "/files? done/.test(document.getElementById('status').textContent)"
COUNT_SHIFTS = """
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.shift = (window.shift ?? 0) + entry.value;
}).observe({type: 'layout-shift', buffered: true})
"""


def by_id(name: str, what: str) -> str:
    return f"document.getElementById('{name}').{what}"


@pytest.fixture
def page(tmp_path):
    with browser_page(tmp_path / "profile") as page:
        page.look()
        yield page


def classified(page, service, *files):
    """Open the page, choose files, and wait for the results."""
    page.open(service.url)
    page.choose("#files", files)
    page.wait(DONE if len(files) == 1 else ALL_DONE)


def test_a_file_gets_classes_frames_a_timeline_and_times(page, tmp_path):
    clip = ball_clip(tmp_path / "ball.mp4")
    with stand_in(**service_parts()) as service:
        page.open(service.url)
        page.run(COUNT_SHIFTS)
        page.choose("#files", [clip])
        page.wait(DONE)
        assert page.text("#status") == "Done: bouncing 0.812."
        assert page.text("#bar-rows").split() == [
            *("bouncing", "0.812", "rolling", "0.093", "falling", "0.051"),
            *("swinging", "0.030", "waving", "0.013"),
        ]
        widths = page.run(
            "[...document.querySelectorAll('.bar div')].map((bar) => "
            "bar.getBoundingClientRect().width)"
        )
        assert widths[0] / widths[1] == pytest.approx(0.8123 / 0.0931, rel=0.01)
        assert page.text("#bar-note") == "balls · openvino"
        times = page.run("[...document.querySelectorAll('#frames button')].map((b) => b.innerText)")
        assert [time.strip() for time in times] == [
            *("0:00.28", "0:00.88", "0:01.48", "0:02.08", "0:02.68", "0:03.28", "0:03.88")
        ]
        assert page.run(
            "[...document.querySelectorAll('#frames img')].every((i) => i.naturalWidth === 320)"
        )
        stages = "[...document.querySelectorAll('#legend span')].map((s) => s.textContent)"
        assert page.run(stages) == [
            *("decode 34 ms", "preprocess 12 ms", "inference 88 ms", "postprocess 0.4 ms"),
            "total 135 ms",
        ]
        rows = page.run(
            "[...document.querySelectorAll('#segment-rows tr')].map((r) => r.innerText)"
        )
        assert [row.split("\t") for row in rows] == [
            ["0:00.0–0:01.4", "bouncing", "0.910"],
            ["0:01.0–0:02.0", "rolling", "0.550"],
            ["0:02.0–0:02.6", "not decoded: corrupt stretch", ""],
            ["0:02.6–0:04.0", "falling", "0.770"],
        ]
        assert page.run("window.shift ?? 0") < 0.1
        assert page.messages == []
        fields = {"topk": "5", "model": "balls"}
        assert service.asked == [
            (
                "/video-classification",
                {**fields, "details": "1", "frames": "1"},
                "ball.mp4",
                clip.stat().st_size,
            ),
            ("/timeline", fields, "ball.mp4", clip.stat().st_size),
        ]


def test_seeking_with_mouse_and_keyboard(page, tmp_path):
    with stand_in(**service_parts()) as service:
        classified(page, service, ball_clip(tmp_path / "ball.mp4"))
        now = by_id("player", "currentTime")

        def wait_for(seconds):
            page.wait(f"Math.abs({now} - {seconds}) < 0.08")
            page.wait(f"{by_id('time-now', 'textContent')} === '0:0{seconds:.1f}'")

        page.click("#strip")
        wait_for(2.0)
        assert page.run("document.activeElement.id") == "strip"
        for key, shift, seconds in (
            *(("ArrowRight", False, 3.0), ("ArrowLeft", False, 2.0), ("PageDown", False, 2.6)),
            *(("PageUp", False, 2.0), ("Home", False, 0.0), ("ArrowRight", True, 4.0)),
            *(("ArrowLeft", True, 0.0), ("End", False, 4.0), ("PageUp", False, 2.6)),
        ):
            page.press(key, shift)
            wait_for(seconds)
        text = page.run("document.getElementById('strip').getAttribute('aria-valuetext')")
        assert text == "0:02.6 of 0:04.0, falling"
        assert page.text("#segment-rows tr[aria-current]").startswith("0:02.6")
        page.click("#frames li:nth-child(3) button")
        wait_for(1.5)
        page.run("document.querySelector('#segment-rows tr:nth-child(2) button').focus()")
        page.press("Enter")
        wait_for(1.0)
        page.run("document.getElementById('player').play()")
        page.wait(f"{now} > 1.2 && parseFloat(document.getElementById('playhead').style.left) > 30")
        assert page.messages == []


def test_json_to_copy_and_to_download(page, tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    with stand_in(**service_parts()) as service:
        classified(page, service, ball_clip(tmp_path / "my ball.mp4"))
        page.click("#json summary")
        shown = json.loads(page.wait(by_id("json-text", "textContent")))
        assert shown["file"] == "my ball.mp4" and shown["timeline"] == ROWS
        assert shown["frames"][:2] == [0.28, 0.88] and shown["categories"][0]["name"] == "bouncing"
        grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        page.command("Browser.grantPermissions", origin=service.url, **grant)
        page.click("#copy")
        page.wait(f"{by_id('copied', 'textContent')} === 'Copied.'")
        page.run("window.focus()")
        assert json.loads(page.run("navigator.clipboard.readText()")) == shown
        page.run("window.clipboard = navigator.clipboard; clipboard.writeText('another')")
        page.run("delete Navigator.prototype.clipboard")  # as on a page without https
        page.click("#copy")
        assert (
            json.loads(page.wait("clipboard.readText().then((t) => t !== 'another' && t)")) == shown
        )
        assert page.run("document.activeElement.id") == "copy"
        page.command("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        page.click("#download")
        page.wait_for(lambda: (folder / "my ball.json").is_file())
        assert json.loads((folder / "my ball.json").read_text()) == shown
        assert page.messages == []


def test_several_files_are_a_table(page, tmp_path):
    other = result(NAMES[::-1])
    parts = service_parts()
    parts["results"]["b.mp4"] = other
    with stand_in(**parts) as service:
        names = ("a.mp4", "b.mp4", "broken.mp4")
        page.open(service.url)
        page.run(COUNT_SHIFTS)
        page.choose("#files", [ball_clip(tmp_path / name, 20) for name in names])
        page.wait(ALL_DONE)
        assert page.run("window.shift ?? 0") < 0.1
        assert page.text("#status") == "2 files done, 1 failed."
        rows = page.run("[...document.querySelectorAll('#list-rows tr')].map((r) => r.innerText)")
        assert [row.split("\t") for row in rows] == [
            ["a.mp4", "bouncing", "0.812", "done"],
            ["b.mp4", "waving", "0.812", "done"],
            ["broken.mp4", "", "", f"failed: The service cannot use this file: {DAMAGED}."],
        ]
        assert page.text("#result-title") == "a.mp4"
        page.click("#list-rows tr:nth-child(2) button")
        page.wait(f"{by_id('result-title', 'textContent')} === 'b.mp4'")
        assert page.text("#bar-rows").startswith("waving")
        page.press("Tab")
        page.press("Enter")
        page.wait(f"{by_id('result-title', 'textContent')} === 'broken.mp4'")
        assert page.text("#alert") == f"The service cannot use this file: {DAMAGED}."
        assert page.text("#bar-note") == "No result." and page.text("#bar-rows") == ""
        assert page.run(by_id("facts", "hidden"))
        page.click("#clear")
        page.wait(by_id("result", "hidden"))
        assert page.run(by_id("list", "hidden")) and page.text("#alert").strip() == ""
        assert [message for message in page.messages if "422" not in message] == []


HOSTILE = [
    "<img src=x onerror='window.hit=1'>",
    "</td></table><script>window.hit=2</script>",
    "\u202egpj.tac",
    "a\nb\x1b[31m",
    "&lt;b&gt; 红色 👩‍👩‍👧",
]
SHOWN = [*HOSTILE[:2], "\\u202egpj.tac", "a\\x0ab\\x1b[31m", HOSTILE[4]]


def test_names_stay_text(page, tmp_path):
    parts = service_parts()
    rows = [segment(i, i + 1, name) for i, name in enumerate(HOSTILE)]
    parts |= {"results": {"": {**result(HOSTILE), "note": HOSTILE[0], "model": HOSTILE[1]}}}
    parts |= {
        "timelines": {"": Answer(rows=[*rows, segment(5, 6, error=HOSTILE[0]), {"done": True}])}
    }
    parts["models"] = [{**parts["models"][0], "name": HOSTILE[0], "backend": HOSTILE[1]}]
    name = "<img src=x onerror=window.hit=3>\u202e.mp4"
    with stand_in(**parts) as service:
        classified(page, service, *(ball_clip(tmp_path / n, 20) for n in (name, "b.mp4")))
        page.click("#json summary")
        names = "[...document.querySelectorAll('#bar-rows .name')].map((e) => e.textContent)"
        assert page.run(names) == SHOWN
        names = "[...document.querySelectorAll('#segment-rows .name')].map((e) => e.textContent)"
        assert page.run(names) == [*SHOWN, f"not decoded: {HOSTILE[0]}"]
        shown = name.replace("\u202e", "\\u202e")
        assert page.text("#result-title") == shown
        assert page.text("#list-rows button") == shown
        assert page.run("window.hit") is None
        assert page.run("document.images.length") == 1 + len(result()["frames"])
        assert service.asked[0][1]["model"] == HOSTILE[0]
        assert page.messages == []


def test_models_without_frames_and_with_several_labels(page, tmp_path):
    quiet = result()
    del quiet["frames"]
    parts = service_parts(models=[LISTENER, TAGGER], results={"": quiet})
    with stand_in(**parts) as service:
        classified(page, service, ball_clip(tmp_path / "a.mp4", 20))
        assert page.text("#model-facts") == "5 classes · audio · paddle"
        note = "This model uses audio only. It looked at no frames."
        assert page.text("#frames-note") == note and page.text("#frames") == ""
        page.run(f"{by_id('model', 'value')} = 'tags'")
        page.run("document.getElementById('model').dispatchEvent(new Event('change'))")
        assert page.text("#model-facts") == "5 classes · frames and audio · openvino"
        service.results[""] = result()
        page.click("#again")
        page.wait(DONE)
        page.wait(f"{by_id('frames-note', 'textContent')} === 'The model also used the audio.'")
        assert "multi-label: each score is on its own" in page.text("#bar-note")
        assert service.asked[-1][1]["model"] == "tags"
        assert page.messages == []


def test_a_file_that_the_browser_cannot_play(page, tmp_path):
    """Frames of the model take the place of the player, also for the timeline."""
    clip = ball_clip(tmp_path / "old.avi", codec="mpeg4")
    with stand_in(**service_parts()) as service:
        classified(page, service, clip)
        page.wait(f"{by_id('player', 'hidden')} && !{by_id('still', 'hidden')}")
        assert "cannot play this file. Frame at 0:00.28" in page.text("#screen-note")
        page.click("#strip")
        page.wait(f"{by_id('still', 'alt')} === 'Frame at 0:02.08'")
        assert page.text("#time-now") == "0:02.0"
        page.click("#frames li:last-child button")
        page.wait(f"{by_id('still', 'alt')} === 'Frame at 0:03.88'")
        assert page.messages == []


def drag(page, *kinds, data):
    for kind in kinds:
        page.command("Input.dispatchDragEvent", type=kind, x=600, y=500, data=data)


def test_dropped_files_and_folders(page, tmp_path):
    one = ball_clip(tmp_path / "one.mp4", 20)
    two = ball_clip(tmp_path / "folder" / "inner" / "two.MP4", 20)
    (tmp_path / "folder" / "notes.txt").write_text("not a video")
    with stand_in(**service_parts()) as service:
        page.open(service.url)
        data = {"items": [], "files": [str(one), str(two.parents[1])], "dragOperationsMask": 1}
        drag(page, "dragEnter", "dragOver", data=data)
        assert page.run("document.body.classList.contains('dragging')")
        drag(page, "drop", data=data)
        page.wait(ALL_DONE)
        assert not page.run("document.body.classList.contains('dragging')")
        names = {name for _, _, name, _ in service.asked}
        assert names == {"one.mp4", "two.MP4"}
        text = {"items": [{"mimeType": "text/plain", "data": "a link"}], "dragOperationsMask": 1}
        drag(page, "dragEnter", "dragOver", "drop", data=text)
        page.wait(f"{by_id('alert', 'textContent')}.startsWith('No file was dropped.')")
        assert page.messages == []
