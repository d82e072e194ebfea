"""The look of the page in light and dark and on a phone, its keyboard, and its texts."""

import pytest

from tests.browser import browser_page, browser_path
from tests.parts.serve.page_examples import ball_clip, service_parts
from tests.parts.serve.stand_in import stand_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium; apt-get install chromium"),
]
DONE = "/^Done|files? done/.test(document.getElementById('status').textContent)"
# Pairs of text and background of every visible line of text, below a contrast of 4.5.
LOW_CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.push(rgba(getComputedStyle(at).backgroundColor));
      if (layers.at(-1)[3] === 255) break;
    }
    return layers.reverse().reduce((below, [r, g, b, a]) =>
      [r, g, b].map((value, index) => (value * a + (below[index] ?? 255) * (255 - a)) / 255), []);
  };
  const found = [];
  let count = 0;
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest('.unseen, :disabled')) continue;
    const text = luminance(rgba(getComputedStyle(element).color));
    const below = luminance(behind(element));
    const contrast = (Math.max(text, below) + 0.05) / (Math.min(text, below) + 0.05);
    count += 1;
    const name = element.id || element.className;
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)} ${name} ${element.innerText}`);
  }
  return [count, found];
})()
"""

# Visible elements of the page that its right edge cuts off.
OUTSIDE = """
[...document.querySelectorAll('main *:not(pre)')]
  .filter((element) => element.checkVisibility() && !element.closest('.unseen, .segment'))
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
  .map((element) => element.outerHTML.slice(0, 80))
"""
# The id of the focused element or of the one around it, and whether the focus is visible.
FOCUSED = """
(() => {
  const focused = document.activeElement;
  const ring = getComputedStyle(focused).outlineStyle !== 'none';
  return [focused.id || focused.closest('[id]').id, ring || focused.matches('video')];
})()
"""


@pytest.fixture
def page(tmp_path):
    with browser_page(tmp_path / "profile") as page:
        page.look()
        yield page


def classified(page, service, *files):
    """Open the page, choose files, and wait for the results."""
    page.open(service.url)
    page.choose("#files", files)
    page.wait(DONE)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast_and_width(page, tmp_path, dark):
    with stand_in(**service_parts()) as service:
        names = ("a.mp4", "a_very_long_name_without_any_space_" * 4 + ".mp4", "broken.mp4")
        page.look(1200, 900, dark)
        classified(page, service, *(ball_clip(tmp_path / name, 20) for name in names))
        page.click("#options summary")
        page.click("#json summary")
        page.run("document.getElementById('token-form').hidden = false")
        for width in (1200, 420, 360):
            page.look(width, 800, dark)
            count, low = page.run(LOW_CONTRAST)
            assert count > 60 and low == []
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run(OUTSIDE) == []
        paper = page.run("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
        assert [message for message in page.messages if "422" not in message] == []


def test_the_keyboard_reaches_everything_in_order(page, tmp_path):
    with stand_in(**service_parts()) as service:
        classified(page, service, ball_clip(tmp_path / "a.mp4", 20))
        page.run("document.activeElement.blur()")
        reached = []
        for _ in range(60):
            page.press("Tab")
            name, ring = page.run(FOCUSED)
            assert ring, f"{name} shows no focus"
            if not reached or reached[-1] != name:
                reached.append(name)
            if name == "links":
                break
        assert [name for name in reached if name != "player"] == [
            *("model", "choose", "webcam", "options", "again", "clear", "strip"),
            *("segment-box", "segment-rows", "frames", "json", "links"),
        ]
        page.run("document.getElementById('again').focus()")
        page.press("Enter")
        page.wait(f"document.activeElement.id === 'again' && {DONE}")


def test_times_sizes_and_names_as_text(page):
    with stand_in(**service_parts()) as service:
        page.open(service.url)

        def text(call):
            return page.run(f"import('/page/text.js').then((text) => text.{call})")

        assert text("clock(59.97)") == "1:00.0" and text("clock(59.97, 2)") == "0:59.97"
        assert text("clock(3723.44)") == "1:02:03.4" and text("clock(-1)") == "0:00.0"
        assert text("clock(NaN)") == "0:00.0" and text("clock(9)") == "0:09.0"
        assert text("size(1)") == "1 KB" and text("size(999999)") == "1000 KB"
        assert text("size(1.44e6)") == "1.4 MB" and text("size(2.5e9)") == "2.50 GB"
        assert text("milliseconds(9.94)") == "9.9 ms" and text("milliseconds(9.96)") == "10 ms"
        assert text("score(0.99996)") == "1.000"
        assert text(r"readable('a\u2066\u0000\u{e0041}b')") == r"a\u2066\x00\U000e0041b"
        assert text(r"readable('\u0645\u06cc\u200c\u062e')") == "\u0645\u06cc\u200c\u062e"
