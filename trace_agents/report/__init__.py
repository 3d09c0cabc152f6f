"""`report.html`: one self-contained page with everything that a run or an analysis found, to read and to send on.

The page makes no request: style, script and data are inside it. It shows whatever the run has so far, so a
run that was killed has a report too.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trace_agents.analysis.results import CAPABILITIES
from trace_agents.files import write_atomically
from trace_agents.report import charts, words
from trace_agents.report.evaluation import EvaluationContents
from trace_agents.report.gather import AnalysisContents, Contents, gather, gather_analysis

__all__ = ["build_report", "is_analysis", "render"]


def build_report(folder: Path | str, out: Path | str | None = None) -> Path:
    """Write the page for the run or the analysis in `folder`, to `out` or to its `report.html`; returns where.

    Raises:
        UsageError: `folder` is neither, or one of its files is malformed.
    """
    folder = Path(folder)
    contents = gather_analysis(folder) if is_analysis(folder) else gather(folder)
    path = Path(out) if out is not None else folder / "report.html"
    write_atomically(path, render(contents))
    return path


def is_analysis(folder: Path) -> bool:
    """`folder` holds an analysis on its own, and no run."""
    return (folder / CAPABILITIES).is_file() and not (folder / "run.json").exists()


def render(contents: Contents | AnalysisContents | EvaluationContents) -> str:
    """The page as text."""
    page = files(__name__) / "page"
    loader = PackageLoader(__name__, "page")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.globals.update(charts=charts, words=words)
    name, kind = "page", "evaluation" if isinstance(contents, EvaluationContents) else "analysis"
    if isinstance(contents, Contents):
        name, kind = "run", "run"
    return jinja.get_template(f"{kind}.html.jinja").render(
        {name: contents},
        style=Markup((page / "style.css").read_text(encoding="utf-8")),
        script=Markup((page / "script.js").read_text(encoding="utf-8")),
        data=Markup(embed(contents.found.browser)),
    )


def embed(value: object) -> str:
    """JSON that cannot end its `<script>` element, whatever a trajectory says."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate, which a tokenizer can produce, is no UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")
