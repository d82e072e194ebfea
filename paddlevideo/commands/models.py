"""Published models by name: list them, fetch their weights; share models of your own.

Examples:
  %(prog)s info ppTSN_k400
  %(prog)s fetch ppTSN_k400 ResNet50_vd_ssld_v2
  %(prog)s push output/ppTSN/inference me/my-model
  %(prog)s pull me/my-model -o inference/mine
"""

import argparse
from collections.abc import Sequence

from paddlevideo import log
from paddlevideo.commands import load, run
from paddlevideo.plain_text import padded

PUBLISHED = "as published, not reproduced by this project"
NOTE = "Accuracies are those that the publishers state; this project reproduced none of them."
HUBS = ("huggingface", "modelscope")


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The flags of `paddlevideo models`."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("list", help="print names, accuracies and where the files are (the default)")
    verbs.add_parser("info", help="print what is known of a model").add_argument("name")
    fetch = verbs.add_parser("fetch", help="download weights into the cache")
    fetch.add_argument("names", nargs="+", metavar="NAME")
    _add_push(verbs.add_parser("push", help="upload an exported folder or a weight file to a hub"))
    _add_pull(verbs.add_parser("pull", help="download what `push` has uploaded"))
    return parser


def _add_push(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", help="exported folder, folder of a run, or weight file with run.yaml next to it")
    add("repo", help="owner/name on the hub; it is created where it does not exist")
    add("--hub", choices=HUBS, default=HUBS[0])
    add("--public", action="store_true", help="create a repository that everybody can read")
    add("--license", help="license of the model for its card, as apache-2.0")
    add("--message", help="message of the upload")
    dry = "print the card and the names of the files, and upload nothing"
    add("--dry_run", action="store_true", help=dry)


def _add_pull(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("repo", help="owner/name on the hub")
    add("-o", "--output", help="folder to write; default inference/NAME")
    add("--hub", choices=HUBS, default=HUBS[0])
    add("--revision", help="branch, tag or commit; default: the newest")
    add("--overwrite", action="store_true", help="replace what is in the folder")


def work(args: argparse.Namespace) -> None:
    """List, describe, fetch, push or pull.

    Raises:
        ValueError, OSError: no such model, no network, or a folder that cannot be written.
    """
    if args.verb == "info":
        log.show(*info(args.name))
    elif args.verb == "fetch":
        fetch(args.names)
    elif args.verb == "push":
        load("paddlevideo.hub.transfer:push")(
            args.source, args.repo, args.hub, args.public, args.license, args.message, args.dry_run
        )
    elif args.verb == "pull":
        load("paddlevideo.hub.transfer:pull")(
            args.repo, args.output, args.hub, args.revision, args.overwrite
        )
    else:
        log.show(*table())


def found(name: str):
    """The row of a name.

    Raises:
        ValueError: there is none.
    """
    models = load("paddlevideo.zoo.table:models")()
    model = models.get(name) or load("paddlevideo.zoo.table:find_model")(name)
    if model is None:
        hint = load("paddlevideo.zoo.table:name_hint")(name) or "; `paddlevideo models` lists them"
        raise ValueError(f"{name}: no published model has this name{hint}")
    return model


def fetch(names: Sequence[str]) -> None:
    """Download weights into the cache, and print the paths of the files."""
    models = [found(name) for name in names]  # a wrong name is found before the first download
    with log.session():
        for model in models:
            log.show(load("paddlevideo.engine.weight_sources:locate")(model).path)


def where(model) -> str:
    """Where the file of a model can be had, as one word or two."""
    if load("paddlevideo.zoo.cache:cached")(model):
        return "cached"
    if load("paddlevideo.zoo.cache:addresses")(model):
        return "download"
    return "package" if model.package else "no address"


def table() -> list[str]:
    """The models, one line each."""
    rows = [("name", "data", "top-1 %", "weights", "")]
    for model in load("paddlevideo.zoo.table:models")().values():
        top1 = "" if model.top1 is None else f"{model.top1:g}"
        rows.append((model.name, model.data, top1, where(model), model.about))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(map(padded, row, widths)).rstrip() for row in rows]
    return [*lines, "", NOTE]


def info(name: str) -> list[str]:
    """What is known of a model, as lines of text."""
    model = found(name)
    cached = load("paddlevideo.zoo.cache:cached")(model)
    accuracy = [f"top-1 {model.top1:g} %"] if model.top1 else []
    accuracy += [f"top-5 {model.top5:g} %"] if model.top5 else []
    accuracy += [model.test] if model.test else []
    values = {
        "name": model.name,
        "network": model.about,
        "trained on": f"{model.data}, {model.classes} classes" if model.classes else model.data,
        "accuracy": f"{', '.join(accuracy)} ({PUBLISHED})" if accuracy else "",
        "published by": f"{model.source} ({model.license})",
        "config": " ".join([model.config, *(f"-o {text}" for text in model.overrides)]).strip(),
        "class names": model.labels,
        "file": model.file,
        "address": model.url or ("" if model.package else "not known"),
        "package": model.package,
        "SHA-256": model.sha256 or "not published; names and shapes of its tensors are compared",
        "in the cache": cached or f"no; {load('paddlevideo.zoo.cache:by_hand')(model)}",
        "use": _use(model),
    }
    return [f"{key:<14}{value}" for key, value in values.items() if value]


def _use(model) -> str:
    if model.config:
        return f"paddlevideo predict --model {model.name} -i video.mp4"
    return f"paddlevideo train -c CONFIG -o MODEL.backbone.pretrained={model.name}"


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(make_parser(prog), work, argv, bare_help=False)
