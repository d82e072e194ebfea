"""The model card: README.md with metadata that hubs read, made of model.yaml and the report."""

import json
import shlex
import textwrap

import yaml

from paddlevideo.hub.bundle import Bundle
from paddlevideo.plain_text import readable
from paddlevideo.report.run_report import tiles

MAX_CLASSES = 400  # names of classes in a card


def card(model: Bundle, repo: str, hub: str, license_name: str | None) -> str:
    """The text of a card.

    Args:
        repo: owner/name.
        hub: the value of `--hub` that downloads it.
        license_name: identifier of the license as hubs know it, None to state none.
    """
    metadata = {"license": license_name} if license_name else {}
    metadata |= {
        "library_name": "paddlevideo",
        "pipeline_tag": "video-classification",
        "tags": ["paddlepaddle", "video-classification"],
    }
    classes = "" if model.num_classes is None else f"{model.num_classes} classes, "
    kind = "several classes per video" if model.multi_label else "one class per video"
    parts = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---",
        f"# {_cell(repo.partition('/')[2])}",
        f"{_cell(model.name)}: {_cell(model.architecture)}, {classes}{kind}.",
        "## Use",
        _commands(model, repo, hub),
        "## Accuracy",
        _accuracy(model),
        "## Classes",
        _classes(model),
    ]
    if model.inputs:
        rows = [(n, str(list(s.shape)), s.dtype) for n, s in model.inputs.items()]
        parts += ["## Inputs", _table(("input", "shape (None: any)", "type"), rows)]
    parts += ["## Files", _table(("file", "SHA-256"), list(model.digests().items()))]
    return "\n\n".join(parts) + "\n"


def _commands(model: Bundle, repo: str, hub: str) -> str:
    folder = f"inference/{repo.partition('/')[2]}"
    flag = "" if hub == "huggingface" else f" --hub {hub}"
    extra = "hub" if hub == "huggingface" else hub
    source = f"--model {folder}"
    call = f'Predictor("{folder}")'
    if model.weights:
        weights = readable(f"{folder}/{model.weights}")
        source = f"-c {folder}/run.yaml -w {shlex.quote(weights)}"
        call = f'Predictor(config="{folder}/run.yaml", weights={json.dumps(weights)})'
    lines = [
        f"With paddlevideo and its extra `{extra}`:",
        "",
        "```",
        f"paddlevideo models pull {repo}{flag} -o {folder}",
        f"paddlevideo predict {source} -i video.mp4",
        "```",
        "",
        "```python",
        "import paddlevideo",
        "",
        f"predictor = paddlevideo.{call}",
        'for result in predictor.predict("video.mp4"):',
        "    result.print()",
        "```",
    ]
    return "\n".join(lines)


def _accuracy(model: Bundle) -> str:
    if model.run is None:
        return "Not stated: the files of the training run were not next to the model."
    note = "Numbers of the training run, on its own validation data."
    return f"{_table(('', ''), [(name, value) for value, name in tiles(model.run)])}\n\n{note}"


def _classes(model: Bundle) -> str:
    if not model.labels:
        return "Ids from 0; their names are not known."
    names = [_cell(name) for name in model.labels[:MAX_CLASSES]]
    more = len(model.labels) - len(names)
    text = ", ".join(names) + (f", and {more} more" if more else "")
    return textwrap.fill(f"In the order of their ids: {text}.", 100, break_long_words=False)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *(tuple(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text that begins no markup of Markdown or HTML, on one line."""
    escaped = readable(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|#~$" else c for c in escaped)
