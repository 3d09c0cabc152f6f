"""What a wrapped benchmark is made from, by its hashes: the description, and each file that it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mcp_servers.wrapped.benchmark import Benchmark
from trace_agents.files import digest, digest_file

_LATER = ("{folder}", "{task}", "${")
"""What is known only once an episode is played, or is not to be written down."""


def provenance(benchmark: Benchmark) -> dict[str, str]:
    """Part -> SHA-256: the description, its tasks, and each file that it names, those of its commands among them."""
    described = benchmark.described
    parts = {"description": benchmark.path.name, "tasks": described.tasks, "policy": described.policy}
    parts |= {"snapshot": described.reset.snapshot, "checker": described.check.function.rpartition(":")[0]}
    found = {kind: benchmark.here / name for kind, name in parts.items() if name}
    hashes = {kind: digest_file(path) for kind, path in found.items() if path.exists()}
    folders = sorted({row.snapshot for row in benchmark.rows.values() if row.snapshot})
    if folders:
        hashes["task snapshots"] = digest([[name, digest_file(benchmark.here / name)] for name in folders])
    server = described.server
    for section, words, cwd in (
        ("server", (*server.command, *server.env.values()), server.cwd),
        ("reset", described.reset.command, "{here}"),
        ("check", described.check.command, "{here}"),
    ):
        hashes |= {f"{section} file {word!r}": digest_file(path) for word, path in _files(benchmark, words, cwd)}
    return hashes


def _files(benchmark: Benchmark, words: Iterable[str], cwd: str) -> Iterator[tuple[str, Path]]:
    """Each word of a command that names a file, as `file` or `--option=file`, and the file; not this Python."""
    folder = None if any(mark in cwd for mark in _LATER) else benchmark.here / benchmark.filled(cwd)
    for word in words:
        if word == "{python}" or any(mark in word for mark in _LATER):
            continue
        given = benchmark.filled(word)
        name = given.partition("=")[2] if given.startswith("-") else given
        if name and (folder is not None or Path(name).is_absolute()):
            path = (folder or benchmark.here) / name
            if _is_file(path):
                yield word, path


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a program after -c is longer than any name may be."""
    try:
        return path.is_file()
    except OSError:
        return False
