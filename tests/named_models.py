"""A table of small models in place of the published ones, and a server that has their files."""

from collections.abc import Mapping
from pathlib import Path

from paddlevideo.zoo import cache, table
from paddlevideo.zoo.table import NamedModel
from tests.file_server import Server

FACTS = {"about": "small", "data": "clips", "source": "us", "license": "MIT"}


def publish(monkeypatch, server: Server, home: Path, rows: Mapping[str, dict]) -> None:
    """Replace the table by `rows`, and turn downloads on, into a cache in `home`.

    Args:
        rows: {name: arguments of `NamedModel`}; a file without an address is on the server.
    """
    models = {}
    for name, row in rows.items():
        address = {} if "url" in row else {"url": f"{server.url}/{row['file']}"}
        models[name] = NamedModel(name, **{**FACTS, **address, **row})
    monkeypatch.setattr(table, "models", lambda: models)
    table._by_stem.cache_clear()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PADDLEVIDEO_HOME", str(home))
    for name in (cache.OFFLINE, cache.MIRROR):
        monkeypatch.delenv(name, raising=False)
