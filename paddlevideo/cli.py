"""The command `paddlevideo`: a verb, then the flags of its command."""

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from paddlevideo import __version__

# Verb -> (module of its command, what the help says).
VERBS = {
    "train": ("paddlevideo.commands.train", "train a model of a config"),
    "test": ("paddlevideo.commands.test", "test weights on the test set of a config"),
    "predict": ("paddlevideo.commands.predict", "classify videos, audio files or features"),
    "export": ("paddlevideo.commands.export", "export a trained model"),
    "quantize": ("paddlevideo.commands.quantize", "add an int8 program to an exported model"),
    "serve": ("paddlevideo.commands.serve", "serve exported models over HTTP, with a page"),
    "benchmark": ("paddlevideo.commands.benchmark", "measure speed"),
    "check-data": ("paddlevideo.commands.check_data", "check videos before training, write lists"),
    "extract": ("paddlevideo.commands.extract_features", "extract frame features of videos"),
    "fuse": ("paddlevideo.commands.report_accuracy", "accuracy of score files, alone and fused"),
    "report": ("paddlevideo.commands.report", "write the report of a training run"),
    "plot": ("paddlevideo.commands.plot_run", "plot the curves of a training run"),
    "compare": (
        "paddlevideo.commands.compare_runs",
        "scores of several training runs, their mean, a plot",
    ),
    "convert": ("paddlevideo.commands.convert_weights", "convert weights of another project"),
    "sync-accuracy": ("paddlevideo.commands.sync_accuracy", "measure a synchronization network"),
    "doctor": ("paddlevideo.report.doctor_command", "describe this machine and its problems"),
    "gpu-check": ("paddlevideo.commands.gpu_check", "check everything on the GPUs of this machine"),
    "models": ("paddlevideo.commands.models", "list, fetch and share models by name"),
    "configs": ("paddlevideo.commands.configs", "list the shipped configs, or copy one"),
    "demo": ("paddlevideo.commands.demo", "generate clips, train, test, export, predict"),
    "completion": ("paddlevideo.commands.completion", "print the completion code of a shell"),
    "data make-demo": ("paddlevideo.commands.make_demo", "generate the demo data set"),
    "data resize": ("paddlevideo.commands.resize_videos", "write smaller copies of videos"),
    "data frames": ("paddlevideo.commands.extract_frames", "write the frames of videos"),
    "data audio": ("paddlevideo.commands.extract_audio", "write the audio of videos"),
    "data audio-features": (
        "paddlevideo.commands.build_audio_features",
        "write log-mel features of audio files or videos",
    ),
    "data kinetics": ("paddlevideo.commands.prepare_kinetics", "make lists of Kinetics"),
    "data ucf101": ("paddlevideo.commands.prepare_ucf101", "make lists of UCF-101"),
    "data shards": (
        "paddlevideo.commands.make_shards",
        "write a list's files into tar shards",
    ),
    "data youtube8m": ("paddlevideo.commands.prepare_youtube8m", "check and convert YouTube-8M"),
}
ABOUT = {
    "": "Video recognition on PaddlePaddle, from a file to a label.",
    "data": "Prepare data sets.",
}
GROUPS = sorted({verb.split()[0] for verb in VERBS if " " in verb})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of a verb.

    Args:
        argv: the verb and its flags; None takes those of the process.

    Returns:
        the exit code: 2 where the verb is missing or not known.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may follow
        import_module("paddlevideo.commands.completion").complete(VERBS)
    if words in (["--version"], ["-V"]):
        print(f"paddlevideo {__version__}")
        return 0
    group = words[0] if words and words[0] in GROUPS else ""
    rest = words[1:] if group else words
    if not rest or rest[0] in ("-h", "--help", "help"):
        print(help_text(group))
        return 0 if rest else 2
    verb = f"{group} {rest[0]}".strip()
    if verb not in VERBS:
        print(f"error: {unknown(verb, group)}", file=sys.stderr)
        return 2
    return import_module(VERBS[verb][0]).main(rest[1:], f"paddlevideo {verb}")


def help_text(group: str = "") -> str:
    """The verbs, or those of a group, and what they do."""
    prefix = f"{group} " if group else ""
    rows = {v.removeprefix(prefix): t for v, (_, t) in VERBS.items() if v.startswith(prefix)}
    if not group:
        rows = {verb: text for verb, text in rows.items() if " " not in verb}
        rows |= {name: f"prepare data sets: `paddlevideo {name} --help`" for name in GROUPS}
    lines = [f"usage: paddlevideo {prefix}VERB [flags]", ""]
    lines += [ABOUT[group], "", "verbs:"]
    lines += [f"  {verb:<16}{text}" for verb, text in rows.items()]
    return "\n".join([*lines, "", f"`paddlevideo {prefix}VERB --help` shows the flags of a verb."])


def unknown(verb: str, group: str) -> str:
    """The message about a verb that does not exist."""
    names = [name for name in VERBS if name.startswith(f"{group} " if group else "")]
    near = difflib.get_close_matches(verb, [*names, *GROUPS], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"paddlevideo has no verb {verb!r}{hint} `paddlevideo {group or '--help'}` lists them"
