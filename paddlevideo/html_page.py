"""The frame of every HTML page of this package: head, security policy, colors, light and dark.

A page is one file. It fetches nothing, and it runs no script unless its caller passes one.
"""

import html

from paddlevideo.plain_text import readable

# Nothing is fetched, whatever a name inside the page tries.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
SCRIPT_POLICY = "; script-src 'unsafe-inline'"
# The palette of every page and plot: CSS variable -> (color in light mode, in dark mode).
PALETTE = {
    "--paper": ("#fff", "#14181d"),
    "--ink": ("#1c2128", "#e3e8ed"),
    "--soft": ("#57606a", "#9aa5b1"),
    "--faint": ("#b8c0c8", "#4d5762"),
    "--card": ("#f5f7f9", "#1d232a"),
    "--c1": ("#2f6fd0", "#6ea8ff"),
    "--c2": ("#c8621b", "#f0a060"),
    "--c3": ("#2c8a55", "#62c98d"),
    "--c4": ("#8e48b0", "#c88be8"),
    "--c5": ("#6b7280", "#a3acb8"),
    "--bad": ("#b3261e", "#ff8a80"),
    "--good": ("#1f7a44", "#6fd699"),
}
# A split has the same color wherever it is drawn.
SPLIT_COLORS = {"train": "--c1", "valid": "--c2", "test": "--c3"}


def _variables(mode: int) -> str:
    return " ".join(f"{name}: {colors[mode]};" for name, colors in PALETTE.items())


# A page may override any of the variables in its own style.
STYLE = f"""
:root {{ color-scheme: light dark; {_variables(0)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(1)} }} }}
"""
STYLE += """\
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; }
.n { text-align: right; white-space: nowrap; } .name { overflow-wrap: anywhere; }
.bad { color: var(--bad); } .good { color: var(--good); } summary { cursor: pointer; }
"""


def escape(text: object) -> str:
    """Any object as text for HTML; characters that cannot be printed appear as their codes."""
    return html.escape(readable(str(text)))


def page(title: str, body: str, style: str = "", script: str = "") -> str:
    """Return a complete HTML document.

    Args:
        title: plain text; `page` escapes it.
        body: HTML. The caller escapes every text in it that comes from outside (`escape`).
        style: CSS that follows the shared style.
        script: JavaScript that runs at the end of the body. Without it the page forbids scripts.
    """
    policy = POLICY + SCRIPT_POLICY * bool(script)
    head = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body>",
    ]
    tail = [f"<script>{script}</script>"] if script else []
    return "\n".join([*head, body, *tail, "</body></html>"]) + "\n"
