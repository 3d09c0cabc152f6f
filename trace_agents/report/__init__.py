"""`report.html`: one self-contained page with everything that a run found, for reading and for sending on.

The page makes no request: style, script and data are inside it. It shows whatever the run has so far, so a
run that was killed, or that only analysed, has a report too.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from trace_agents.files import write_atomically
from trace_agents.report import charts, words
from trace_agents.report.gather import Contents, gather

__all__ = ["build_report", "render"]


def build_report(run_dir: Path | str, out: Path | str | None = None) -> Path:
    """Write the page for the run in `run_dir`, to `out` or to its `report.html`; returns where.

    Raises:
        UsageError: `run_dir` is not a run, or one of its files is malformed.
    """
    contents = gather(Path(run_dir))
    path = Path(out) if out is not None else Path(run_dir) / "report.html"
    write_atomically(path, render(contents))
    return path


def render(contents: Contents) -> str:
    """The page as text."""
    page = files(__name__) / "page"
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.globals.update(charts=charts, words=words)
    template = jinja.from_string((page / "report.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        run=contents,
        style=Markup((page / "style.css").read_text(encoding="utf-8")),
        script=Markup((page / "script.js").read_text(encoding="utf-8")),
        data=Markup(embed(contents.browser)),
    )


def embed(value: object) -> str:
    """JSON that cannot end its `<script>` element, whatever a trajectory says."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate, which a tokenizer can produce, is no UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")
