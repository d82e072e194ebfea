"""The files of the page: complete, consistent, free of inline code and of other servers."""

import re
import runpy
from html.parser import HTMLParser

import pytest
import setuptools

from paddlevideo.html_page import PALETTE
from tests.parts.serve.stand_in import PAGE

HTML = (PAGE / "index.html").read_text(encoding="utf-8")
CSS = (PAGE / "page.css").read_text(encoding="utf-8")
SCRIPTS = {file.name: file.read_text(encoding="utf-8") for file in sorted(PAGE.glob("*.js"))}
CODE = "\n".join(SCRIPTS.values())
VOID = {"meta", "link", "input", "img", "br"}


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and whether they are closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> at {self.getpos()}"


TAGS = Tags(HTML).found
IDS = [attributes["id"] for _, attributes in TAGS if "id" in attributes]


def test_ids_are_unique_and_every_id_of_the_scripts_exists():
    assert len(IDS) == len(set(IDS))
    used = set(re.findall(r"""(?:byId|note|click)\(\s*["']([\w-]+)["']""", CODE))
    used |= set(re.findall(r'"([a-z]+-note)"', CODE))
    assert len(used) > 30 and used <= set(IDS)


def test_ids_in_attributes_and_styles_exist():
    names = ("for", "aria-labelledby", "aria-describedby", "aria-controls")
    targets = {attributes[name] for _, attributes in TAGS for name in names if name in attributes}
    assert len(targets) > 8 and targets <= set(IDS)
    selectors = re.sub(r"\{[^{}]*\}", " ", CSS)
    styled = set(re.findall(r"#([a-z][\w-]*)", selectors))
    assert len(styled) > 15 and styled <= set(IDS)


def test_every_control_has_a_name():
    labelled = {attributes.get("for") for tag, attributes in TAGS if tag == "label"}
    controls = [(tag, a) for tag, a in TAGS if tag in ("input", "select") and a.get("hidden", 1)]
    assert len(controls) >= 8
    for tag, attributes in controls:
        assert attributes["id"] in labelled, f"<{tag} id={attributes['id']}> has no label"
    assert all(a.get("type") for tag, a in TAGS if tag == "button"), "a button submits by default"


def test_what_the_page_and_the_scripts_load_is_in_the_package():
    loaded = [a.get("src") or a.get("href") for tag, a in TAGS if tag in ("script", "link")]
    assert len(loaded) == 3 and all(name.startswith("page/") for name in loaded)
    assert all((PAGE / name.removeprefix("page/")).is_file() for name in loaded)
    imports = re.findall(r'^import \{([^}]+)\} from "\./([\w.]+)";$', CODE, re.M)
    assert len(imports) >= 8
    for names, file in imports:
        for name in names.split(","):
            exported = rf"^export (?:async )?(?:function\*?|const|class) {name.strip()}\b"
            assert re.search(exported, SCRIPTS[file], re.M), f"{file} has no {name.strip()}"
    reached = {file for _, file in imports} | {"main.js"}
    assert reached == set(SCRIPTS), "a script that nothing imports"


def test_the_page_names_no_other_server():
    icon = (PAGE / "icon.svg").read_text(encoding="utf-8")
    icon = icon.replace('xmlns="http://www.w3.org/2000/svg"', "")
    server = re.compile(r"//\w+\.\w|@import|url\(")
    for name, text in {"index.html": HTML, "page.css": CSS, "icon.svg": icon, **SCRIPTS}.items():
        assert not server.search(text), name
    assert server.search('src="https://cdn.example.com/x.js"') and server.search("//a.com/x")


def test_nothing_is_inline_and_names_never_become_html():
    for tag, attributes in TAGS:
        assert not [a for a in attributes if a == "style" or a.startswith("on")], tag
        assert tag != "style" and (tag != "script" or "src" in attributes)
    risky = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.cssText"
    )
    assert not re.findall(risky + r"|setAttribute\(\"(?:style|on)", CODE)
    assert "innerText" not in CODE and "console." not in CODE and "debugger" not in CODE


def test_the_policy_allows_only_this_server():
    policies = [a["content"] for _, a in TAGS if a.get("http-equiv") == "Content-Security-Policy"]
    parts = dict(part.strip().split(" ", 1) for part in policies[0].split(";"))
    assert parts.pop("default-src") == "'none'"
    assert parts["script-src"] == parts["style-src"] == parts["connect-src"] == "'self'"
    assert set(" ".join(parts.values()).split()) <= {"'self'", "'none'", "data:", "blob:"}
    assert parts["base-uri"] == parts["form-action"] == "'none'"


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_the_colors_are_those_of_every_page(mode):
    blocks = CSS.split("@media (prefers-color-scheme: dark)")
    assert len(blocks) == 2
    block = blocks[mode].split("\n}\n")[0] if mode else blocks[0]
    colors = dict(re.findall(r"(--\w+): (#\w+);", block))
    assert colors == {name: pair[mode] for name, pair in PALETTE.items()}


def test_style_uses_only_known_variables():
    set_by_scripts = set(re.findall(r'setProperty\("(--\w+)"', CODE))
    defined = set(re.findall(r"(--[\w-]+):", CSS)) | set_by_scripts
    assert set(re.findall(r"var\((--[\w-]+)", CSS)) <= defined


def test_files_are_short():
    for name, text in {"index.html": HTML, "page.css": CSS, **SCRIPTS}.items():
        assert len(text.splitlines()) <= 400, name


def test_the_wheel_has_the_page(root, monkeypatch):
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: given.update(options))
    runpy.run_path(str(root / "setup.py"))
    assert "paddlevideo.serve" in given["packages"]
    patterns = given["package_data"]["paddlevideo.serve"]
    found = {file for pattern in patterns for file in PAGE.parent.glob(pattern)}
    assert found == {file for file in PAGE.iterdir() if file.is_file()} and len(found) >= 9
