"""Docstrings exist; links, file names and quoted messages in texts are true; no private paths."""

import ast
import re
from pathlib import Path

from paddlevideo.engine.build import load_config
from tests.rules.pages import FENCE, ROOT, blocks, config_header, texts

# --- docstrings ---------------------------------------------------------------------------------

SHORT = 6  # lines; a function below this size needs no docstring


def undocumented(name: str, text: str) -> list[str]:
    """The module, its public classes and its longer public functions without a docstring."""
    tree = ast.parse(text)
    missing = []
    if tree.body and not ast.get_docstring(tree):
        missing.append(f"{name}:1: the module has no docstring")
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        num_lines = (node.end_lineno or 0) - node.lineno
        short = isinstance(node, ast.FunctionDef) and num_lines < SHORT
        if not short and not ast.get_docstring(node):
            missing.append(f"{name}:{node.lineno}: {node.name} has no docstring")
    return missing


def test_public_things_have_a_docstring(root):
    files = texts(root, ".py")
    missing = []
    for name, text in files.items():
        if name.startswith("paddlevideo/"):
            missing += undocumented(name, text)
        if name.startswith(("tools/", "main.py")) and not text.startswith('"""'):
            missing.append(f"{name}:1: no docstring, which --help shows")
    assert not missing, "\n" + "\n".join(missing)
    assert undocumented("a.py", "class A: pass") == [
        "a.py:1: the module has no docstring",
        "a.py:1: A has no docstring",
    ]


# --- links --------------------------------------------------------------------------------------

LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)]*))?\)")


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_links_lead_to_files_and_headings(root):
    pages = texts(root, ".md")
    broken = []
    for name, text in pages.items():
        for match in LINK.finditer(text):
            file, anchor = match.groups()
            target = (root / name).parent / file if file else root / name
            place = f"{name}:{text[: match.start()].count(chr(10)) + 1}"
            if not target.exists():
                broken.append(f"{place}: {file} does not exist")
            elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
                broken.append(f"{place}: {file} has no heading #{anchor}")
    assert not broken, "\n" + "\n".join(broken)
    assert anchors("# A page: `x` and more\n") == {"a-page-x-and-more"}


# --- width --------------------------------------------------------------------------------------

MAX_PROSE = 120  # columns; tables, code, and lines without a space to break at may be longer


def long_lines(text: str) -> list[str]:
    prose = re.sub(r"\]\([^)]*\)", "]", FENCE.sub("", text)).splitlines()
    return [line for line in prose if len(line) > MAX_PROSE and line.lstrip()[0] not in "|!<"]


def test_prose_is_wrapped(root):
    pages = texts(root, ".md").items()
    found = [f"{name}: {line}" for name, text in pages for line in long_lines(text)]
    assert not found, "\n" + "\n".join(found)
    assert long_lines("a " * 61 + "\n| " + "b " * 99) == ["a " * 61]


# --- file names ---------------------------------------------------------------------------------

NAMED = re.compile(
    r"(?<![\w/.-])((?:benchmarks|configs|tools|tests|paddlevideo|docs)/[\w./-]+\.(?:py|yaml|md|png))\b"
)


def test_files_named_in_texts_exist(root):
    missing = []
    for name, text in texts(root, ".md", ".yaml", "").items():
        if not name.startswith("tests/"):
            for number, line in enumerate(text.splitlines(), 1):
                files = [file for file in NAMED.findall(line) if not (root / file).exists()]
                missing += [f"{name}:{number}: {file}" for file in files]
    assert not missing, "these files do not exist:\n" + "\n".join(missing)


def described_texts() -> dict[str, str]:
    """{path: text} of all pages and config headers."""
    headers = {name: config_header(text) for name, text in texts(ROOT, ".yaml").items()}
    return texts(ROOT, ".md") | headers


# output/<folder>/<name>_<which>.<suffix>: the weights of a run.
WEIGHTS = re.compile(
    r"output/(\w+)/(\w+?)_((?:epoch_\w+|best|latest)(?:_student)?)\.(pdparams|pdopt|pdstate)"
)


def test_weights_in_texts_have_the_names_that_runs_write(root, monkeypatch):
    """Folder and model name are those of a config; a number of an epoch has five digits."""
    monkeypatch.chdir(root)
    configs = [load_config(path) for path in sorted(root.glob("configs/**/*.yaml"))]
    runs = {(Path(cfg.folder).name, cfg.model_name) for cfg in configs}
    models = {cfg.model_name for cfg in configs}
    wrong, num_weights = [], 0
    for name, text in described_texts().items():
        folders = set(re.findall(r"output_dir=output/(\w+)", text))
        for folder, model, which, suffix in WEIGHTS.findall(text):
            num_weights += 1
            known = (folder, model) in runs or (folder in folders and model in models)
            numbered = re.fullmatch(r"epoch_\d{5}", which.removesuffix("_student"))
            latest = which == "latest" and suffix == "pdstate"
            if not known or not (numbered or latest or which.startswith("best")):
                wrong.append(f"{name}: output/{folder}/{model}_{which}.{suffix}")
    assert not wrong, "no run writes these:\n" + "\n".join(wrong)
    assert num_weights > 20


def test_checkpoints_have_five_digits(root):
    """The rule above, and the format in the code."""
    code = (root / "paddlevideo/engine/train.py").read_text(encoding="utf-8")
    assert "_epoch_{done:05d}" in code


# --- messages -----------------------------------------------------------------------------------


def literals(text: str) -> set[str]:
    """The literal parts of all strings of a Python file, f-strings in pieces."""
    nodes = ast.walk(ast.parse(text))
    found = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {piece for value in found for piece in re.split(r"%[sdr]|[:;]", value)}


def test_messages_in_troubleshooting_are_those_of_the_code(root):
    """Each quoted message shares a long piece with a message in the code."""
    page = (root / "docs/troubleshooting.md").read_text(encoding="utf-8")
    code = texts(root, ".py").items()
    found = {p.strip(" ;:.") for n, t in code if not n.startswith("tests/") for p in literals(t)}
    pieces = [piece for piece in found if len(piece) >= 10]
    cells = re.findall(r"^\| (`[^|]*`)[^|`]* \|", page, re.M)
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    # Messages of other programs, and a column of the log.
    elsewhere = ("ValueError: substring", "paddle/distributed", "img_00251", "data: 60%")
    unknown = [
        message
        for message in messages
        if not message.startswith(elsewhere)
        and not any(piece in message or message in piece for piece in pieces)
    ]
    assert not unknown, "no message of the code:\n" + "\n".join(unknown)
    assert len(messages) > 40


# --- the Chinese README -----------------------------------------------------------------------


def outline(text: str) -> dict[str, list]:
    """What a page and its translation have in common."""
    code = [block.code.splitlines() for block in blocks("a.md", text)]
    prose = FENCE.sub("", text)
    links = re.findall(r"\]\(([^)]*)\)", prose.replace("README_zh.md", "README.md"))
    named = {name for name in re.findall(r"`([^`\n]+)`", prose) if name.isascii()}
    return {
        "headings": re.findall(r"^(#+) ", prose, re.M),
        "commands": [re.sub(r"(^|\s+)# .*", "", line) for lines in code for line in lines],
        "columns of table rows": [row.count("|") for row in re.findall(r"^\|.*", prose, re.M)],
        "list items": re.findall(r"^- ", prose, re.M),
        "links": sorted(links),
        "names in backticks": sorted(named),
        "numbers": sorted(set(re.findall(r"\d+(?:\.\d+)+", re.sub(r"\]\([^)]*\)", "]", prose)))),
    }


def test_the_chinese_readme_has_what_the_english_one_has(root):
    pages = ("README.md", "README_zh.md")
    english, chinese = (outline((root / page).read_text(encoding="utf-8")) for page in pages)
    for part, expected in english.items():
        assert chinese[part] == expected, f"{part} of README_zh.md"
    assert len(english["commands"]) > 60 and len(english["links"]) > 60
    assert outline("# 1\n```\na  # b\n```\n")["commands"] == ["a"]


# --- no private paths ---------------------------------------------------------------------------

PRIVATE_PATH = re.compile(r"(?<![\w.$~}])/(?:work|home|root|Users|mnt|data\d|tmp|private)/[\w.-]+")


def test_no_path_of_one_machine(root):
    found = []
    for name, text in texts(root).items():
        for number, line in enumerate(text.splitlines(), 1):
            if PRIVATE_PATH.search(line) and name != "tests/rules/test_docs.py":
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found, "\n" + "\n".join(found)
    assert PRIVATE_PATH.search("cd /home/me/videos") and not PRIVATE_PATH.search(
        "data/demo/train.list paddlevideo/media/decode.py"
    )
