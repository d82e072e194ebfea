"""What is measured of an exported model: its programs in every runtime of this machine."""

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlevideo.benchmarks.exported import Exported
from paddlevideo.cores import num_cores
from paddlevideo.log import logger
from paddlevideo.predict.gpus import has_gpu
from paddlevideo.runtimes.base import Backend
from paddlevideo.runtimes.choose import RUNTIMES
from paddlevideo.runtimes.manifest import Manifest
from paddlevideo.runtimes.measured import EXACT

# Options of a runtime that are measured besides its own, in fp32.
OPTIONS: dict[str, dict[str, Any]] = {"paddle": {"onednn": False}}


@dataclass(frozen=True)
class Setting:
    """A program of the folder in a runtime.

    Args:
        program: file name; "" for the built model.
        options: of `open_backend`.
    """

    kind: str
    program: str
    options: dict[str, Any]

    def label(self, threads: bool) -> str:
        """Its name in the table.

        Args:
            threads: name their number.
        """
        suffix = Path(self.program).suffix
        precision = self.options["precision"]
        preferred = not suffix or suffix == RUNTIMES[self.kind].reads(precision)[0]
        words = [self.kind if preferred else f"{self.kind} {suffix}"]
        if precision != "fp32":
            words.append(precision)
        if self.options.get("onednn") is False:
            words.append("no oneDNN")
        if threads:
            words.append(f"{self.options['threads']} threads")
        return ", ".join(words)


@dataclass
class Opened:
    """A setting that this machine can run.

    Args:
        difference: of its outputs for the golden inputs.
        memory: largest resident memory of a process that runs it (bytes); 0 if unknown.
        gpu_memory: what that process takes of the GPU (MB); None on a CPU, or if unknown.
    """

    setting: Setting
    backend: Backend
    difference: float
    memory: int = 0
    gpu_memory: int | None = None


@dataclass(frozen=True)
class Way:
    """A setting with a number of clips per run.

    Args:
        threads: name their number.
    """

    opened: Opened
    clips: int
    threads: bool

    @property
    def name(self) -> str:
        """Its name in the table."""
        label = self.opened.setting.label(self.threads)
        return label + (f", {self.clips} clips" if self.clips > 1 else "")

    @property
    def exact(self) -> bool:
        """Whether `auto` may choose it."""
        setting = self.opened.setting
        fp32 = setting.options["precision"] == "fp32"
        return bool(setting.program) and fp32 and self.opened.difference <= EXACT


def settings(
    exported: Exported, manifest: Manifest, args: argparse.Namespace, device: str
) -> Iterator[Setting]:
    """Every program in every runtime that reads it; then the built model, where there is one.

    With --preferred, only the first program of each runtime, without the options besides its own.
    """
    missing = {kind: runtime.missing() for kind, runtime in RUNTIMES.items()}
    for kind, text in missing.items():
        if text:
            logger.info(f"left out: {kind}: {text}")
    threads = args.threads or default_threads()
    for number, precision in itertools.product(threads, args.precision):
        options = {"device": device, "precision": precision, "threads": number}
        others = precision == "fp32" and device == "cpu" and not args.preferred
        for kind, programs in programs_for(manifest, precision, device).items():
            for program in programs[:1] if args.preferred else programs:
                if missing[kind]:
                    continue
                yield Setting(kind, program, options)
                if others and kind in OPTIONS:
                    yield Setting(kind, program, options | OPTIONS[kind])
        if exported.model is not None and precision == "fp32":
            yield Setting("eager", "", options)
            if not args.preferred:
                yield Setting("eager", "", {**options, "onednn": False})


def programs_for(manifest: Manifest, precision: str, device: str) -> dict[str, list[str]]:
    """{runtime: names of the programs that it reads for a precision, the preferred one first}."""
    names = sorted(manifest.files)
    return {
        kind: [n for suffix in runtime.reads(precision) for n in names if n.endswith(suffix)]
        for kind, runtime in RUNTIMES.items()
        if device in runtime.auto_rank or (device == "gpu" and has_gpu(runtime))
    }


def device_here() -> str:
    """gpu where a runtime takes one by itself, which OpenVINO does not; else cpu."""
    ranked = [runtime for runtime in RUNTIMES.values() if "gpu" in runtime.auto_rank]
    return "gpu" if any(map(has_gpu, ranked)) else "cpu"


def default_threads() -> list[int]:
    """All cores; and half of them where there are several, since two may share one unit."""
    cores = num_cores()
    return [cores] if cores < 4 else [cores, cores // 2]


def clips_of(manifest: Manifest, clips: list[int]) -> list[int]:
    """Numbers of clips per run that the programs take."""
    fixed = next(spec.shape[0] for spec in manifest.inputs.values())
    return sorted(set(clips)) if fixed is None else [fixed]
