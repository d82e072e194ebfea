"""The flags that say where bulk work runs: `--on` and what a worker gets."""

import argparse
import re
from dataclasses import dataclass

LOCAL, RAY = "local", "ray"
ADDRESS = re.compile(r"(ray://)?[^\s/:]+:\d{1,5}")


@dataclass(frozen=True)
class Place:
    """Where bulk work runs.

    Args:
        on: `local` for processes of this machine, `ray` for a Ray that runs here or is started, or
            the address of a cluster, as `ray://HOST:PORT` or `HOST:PORT`.
        num_cpus, num_gpus: what each worker of a cluster gets; parts such as 0.25 are possible.
        least, most: number of workers that hold the network; `most` None for what fits.

    Raises:
        ValueError: a number is out of range.
    """

    on: str = LOCAL
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    least: int = 1
    most: int | None = None

    def __post_init__(self):
        if not 0 < self.num_cpus <= 4096:
            raise ValueError(f"--num_cpus {self.num_cpus:g}: expected more than 0, and up to 4096")
        if not 0 <= self.num_gpus <= 64:
            raise ValueError(f"--num_gpus {self.num_gpus:g}: expected 0 to 64")
        for name, value in (("num_cpus", self.num_cpus), ("num_gpus", self.num_gpus)):
            if value > 1 and value != int(value):
                raise ValueError(
                    f"--{name} {value:g}: above 1 Ray takes integers only; give {int(value)} or "
                    f"{int(value) + 1}"
                )

    @property
    def is_local(self) -> bool:
        return self.on == LOCAL


def address(text: str) -> str:
    """The value of --on.

    Raises:
        argparse.ArgumentTypeError: it is neither a word nor an address.
    """
    if text in (LOCAL, RAY) or ADDRESS.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} is no place to work; expected local, ray, ray://HOST:PORT or HOST:PORT"
    )


def bounds(text: str) -> tuple[int, int | None]:
    """(least, most) from a text such as 1:8; `4` is 4:4, and `2:` has no upper bound.

    Raises:
        argparse.ArgumentTypeError: it has another form.
    """
    first, colon, second = text.partition(":")
    if first.isdecimal() and (second.isdecimal() or (colon and not second)):
        most = int(second) if second else None
    elif first.isdecimal() and not colon:
        most = int(first)
    else:
        raise argparse.ArgumentTypeError(f"{text!r}: expected LEAST:MOST workers, such as 1:8")
    if int(first) < 1 or (most is not None and most < int(first)):
        raise argparse.ArgumentTypeError(f"{text}: expected 1 <= LEAST <= MOST")
    return int(first), most


def add_flags(parser: argparse.ArgumentParser, with_gpus: bool = False) -> None:
    """Add --on and what a worker of a cluster gets.

    Args:
        with_gpus: whether the work can use GPUs and has workers that hold a network.
    """
    add = parser.add_argument_group("other machines").add_argument
    where = "local, or ray (one that runs here, else it is started), ray://HOST:PORT, HOST:PORT"
    add("--on", type=address, default=LOCAL, metavar="WHERE", help=f"{where}; see docs/scale.md")
    add("--num_cpus", type=float, help="with --on: CPUs of a worker, such as 0.5; default: 1")
    if with_gpus:
        add("--num_gpus", type=float, help="with --on: GPUs of a worker, such as 0.25; default: 0")
    workers = "with --on: workers, from LEAST to MOST by load; default: 1 and what fits"
    add("--actors", type=bounds, metavar="LEAST:MOST", help=workers)


def place(args: argparse.Namespace) -> Place:
    """The place that the flags describe.

    Raises:
        ValueError: a flag for a cluster is given, and the work is local; a number is out of range.
    """
    given = {name: vars(args).get(name) for name in ("num_cpus", "num_gpus", "actors")}
    given = {name: value for name, value in given.items() if value is not None}
    if args.on == LOCAL and given:
        raise ValueError(f"--{next(iter(given))} is for work on a cluster; give --on ray, too")
    least, most = given.get("actors", (1, None))
    return Place(args.on, given.get("num_cpus", 1.0), given.get("num_gpus", 0.0), least, most)
