"""The page at /docs: the OpenAPI description as one HTML page that fetches nothing.

The usual pages for OpenAPI load their scripts from the network.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from paddlevideo.html_page import escape, page

STYLE = """
body { max-width: 60em; margin: 2em auto; padding: 0 1em; }
h2 { margin-top: 2em; font-size: 1.1em; } h2 code { color: var(--c1); }
td, th { padding: .2em .8em .2em 0; vertical-align: top; } code, pre { font-size: .9em; }
pre { background: var(--card); padding: .8em; overflow-x: auto; }
@media (max-width: 30em) { td, th { display: block; } }
"""
INTRODUCTION = (
    "<p>The same as JSON: <a href='openapi.json'>openapi.json</a>. Example:</p>"
    "<pre>curl -F file=@some.mp4 -F topk=5 {}/video-classification</pre>"
)
ADDRESS = "http://127.0.0.1:8000"


def api_page(schema: Mapping[str, Any]) -> str:
    """The description of the routes as HTML.

    Args:
        schema: an OpenAPI description.
    """
    title = f"{schema['info']['title']} {schema['info']['version']}"
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(schema['info'].get('description', ''))}</p>"]
    parts.append(INTRODUCTION.format(ADDRESS))
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            parts += _route(path, method, route)
    return page(title, "\n".join(parts), STYLE)


def _route(path: str, method: str, route: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>"
    yield f"<p>{escape(route.get('summary', ''))}</p>"
    for kind, content in route.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Takes <code>{escape(kind)}</code>:</p>"
        yield _fields(content["schema"])
    rows = [
        f"<tr><td>{escape(status)}</td><td>{escape(response.get('description', ''))}</td></tr>"
        for status, response in route.get("responses", {}).items()
    ]
    yield f"<p>Returns:</p><table>{''.join(rows)}</table>"
    for content in route.get("responses", {}).get("200", {}).get("content", {}).values():
        if schema := content.get("schema"):
            text = json.dumps(_example(schema), ensure_ascii=False, indent=1)
            yield f"<details><summary>Fields</summary><pre>{escape_lines(text)}</pre></details>"


def _fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = []
    for name, value in schema.get("properties", {}).items():
        kind = "file" if value.get("format") == "binary" else value.get("type", "")
        kind += ", required" if name in required else ""
        rows.append(
            f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td>"
            f"<td>{escape(value.get('description', ''))}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"


def _example(schema: Mapping[str, Any]) -> Any:
    """The shape of a value: names of fields, and what each holds."""
    if schema.get("type") == "array":
        return [_example(schema.get("items", {}))]
    if "properties" in schema:
        return {name: _example(value) for name, value in schema["properties"].items()}
    return schema.get("description") or schema.get("type", "any")


def escape_lines(text: str) -> str:
    """Text of several lines for HTML."""
    return "\n".join(escape(line) for line in text.split("\n"))
