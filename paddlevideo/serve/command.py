"""The serve command: parsed flags -> a running service."""

import os
import re
import stat
from argparse import Namespace
from pathlib import Path

from paddlevideo import dist, log, paddle_internals
from paddlevideo.log import logger
from paddlevideo.serve.fetch import parse_host
from paddlevideo.serve.models import named_folders, open_models
from paddlevideo.serve.run import open_socket, require_packages, serve
from paddlevideo.serve.service import Service
from paddlevideo.serve.settings import Limits, Settings, default_workers

TOKEN = "PADDLEVIDEO_TOKEN"
# Functions of the system take no more seconds, and no more bytes.
MOST = {"timeout": 10**6, "batch_wait": 10**9, "max_mb": 10**12, "max_megapixels": 10**12}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run_command(args: Namespace) -> None:
    """Open the models, and serve until a signal.

    Args:
        args: see commands/serve.py.

    Raises:
        ValueError, OSError: a flag, a model, the token or the port is wrong.
        ModuleNotFoundError: the extra `serve` is not installed.
    """
    require_packages()
    settings = settings_of(args)
    folders = named_folders(args.model)
    with (
        log.session(),
        paddle_internals.keep_num_threads(),
        open_socket(args.host, args.port) as opened,
    ):
        host = f"[{args.host}]" if ":" in args.host else args.host
        address = f"{host}:{opened.getsockname()[1]}"
        dist.use_threads(args.cpu_threads)
        models = open_models(
            folders,
            settings.batch_wait,
            backend=args.backend,
            precision=args.precision,
            device=args.device,
            threads=args.cpu_threads,
            class_names=args.class_names,
        )
        if settings.token is None and args.host not in LOOPBACK:
            logger.warning(
                f"everybody who reaches {address} can use the service: set {TOKEN}, "
                "or give --token_file"
            )
        logger.info(f"http://{address} serves {', '.join(models)}; Ctrl-C ends it")
        serve(Service(models, settings), opened)


def settings_of(args: Namespace) -> Settings:
    """The settings that the flags and the environment give.

    Raises:
        ValueError: a value is out of range.
        OSError: the file of the token cannot be read.
    """
    for name in ("queue", "decode_workers"):
        if vars(args)[name] is not None and vars(args)[name] < 1:
            raise ValueError(f"--{name} is {vars(args)[name]}; it must be at least 1")
    for name in ("max_mb", "max_seconds", "max_megapixels", "timeout", "worker_mb"):
        if not vars(args)[name] > 0:
            raise ValueError(f"--{name} is {vars(args)[name]}; it must be more than 0")
    if args.batch_wait < 0:
        raise ValueError(f"--batch_wait is {args.batch_wait}; it must be at least 0")
    for name, most in MOST.items():
        if not vars(args)[name] <= most:
            raise ValueError(f"--{name} is {vars(args)[name]}; it must be at most {most:,}")
    for host in args.allow_host:
        parse_host(host)
    limits = Limits(
        bytes=round(args.max_mb * 2**20),
        seconds=args.max_seconds,
        pixels=round(args.max_megapixels * 1e6),
        timeout=args.timeout,
        memory=args.worker_mb,
    )
    return Settings(
        limits,
        default_workers() if args.decode_workers is None else args.decode_workers,
        args.queue,
        args.timelines,
        args.batch_wait / 1000,
        tuple(args.allow_host),
        tuple(map(parse_origin, args.allow_origin)),
        read_token(args.token_file),
        args.temp_dir,
        args.host in LOOPBACK,
    )


def parse_origin(text: str) -> str:
    """An origin as browsers send it, from `SCHEME://HOST`, `SCHEME://HOST:PORT`, or `*` for all.

    Raises:
        ValueError: it is none of these.
    """
    origin = text.strip().lower().rstrip("/")
    if origin not in ("*", "null") and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+", origin):
        raise ValueError(
            f"--allow-origin {text!r} is no origin; expected SCHEME://HOST or SCHEME://HOST:PORT, "
            "as https://example.org"
        )
    return origin


def read_token(path: Path | None) -> str | None:
    """The bearer token of a file or of the environment; None where there is none.

    Raises:
        ValueError: both are given, or the token is empty.
        OSError: the file cannot be read.
    """
    given = os.environ.get(TOKEN)
    if path is None:
        if given is not None and not given.strip():
            raise ValueError(f"{TOKEN} is empty; unset it, or set it to a token")
        return given.strip() if given else None
    if given:
        raise ValueError(f"{TOKEN} and --token_file are both given; leave one of them out")
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning(f"{path}: other users can read the token; chmod 600 {path}")
    token = path.read_text(encoding="utf-8").strip()
    if not token:
        raise ValueError(f"{path}: the file of the token is empty")
    return token
