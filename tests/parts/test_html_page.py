"""The frame of HTML pages: complete, escaped, without scripts unless the caller passes one."""

from paddlevideo.html_page import escape, page


def test_returns_a_complete_document():
    text = page("My run", "<h1>My run</h1>", "h1 { margin: 0; }")
    assert text.startswith('<!doctype html><html lang="en">') and text.endswith("</body></html>\n")
    assert "<title>My run</title>" in text and "<h1>My run</h1>" in text
    assert text.index("--paper") < text.index("h1 { margin: 0; }"), "the page's style comes last"


def test_supports_light_and_dark():
    text = page("x", "")
    assert "color-scheme: light dark" in text and "prefers-color-scheme: dark" in text


def test_escapes_the_title():
    assert "<title>&lt;b&gt; &amp; \\n</title>" in page("<b> & \n", "")


def test_escapes_any_object():
    assert escape(7) == "7"
    assert escape('<a href="x">\u202e\udc80') == r"&lt;a href=&quot;x&quot;&gt;\u202e\udc80"


def test_forbids_scripts_unless_given_one():
    assert "script-src" not in page("x", "") and "default-src 'none'" in page("x", "")
    text = page("x", "<p>body</p>", script="go()")
    assert "script-src 'unsafe-inline'" in text
    assert text.index("<p>body</p>") < text.index("<script>go()</script>")
