"""Getting a benchmark's source: a folder as it is, an archive or a git repository from a URL."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from trace_agents.errors import UsageError

FORMS = "give a folder, the URL of a .tar.gz or .zip archive, or 'git+URL@REF'"


def fetch(source: str, scratch: Path) -> Path:
    """The folder that has the source's `pyproject.toml`: the given one, or one made in `scratch`.

    Raises:
        UsageError: no such folder, or the URL is none of the forms that are read, or cannot be read.
    """
    if "://" not in source:
        found = Path(source).expanduser().resolve()
    elif source.startswith("git+"):
        found = _cloned(source.removeprefix("git+"), scratch / "source")
    else:
        found = _unpacked(_downloaded(source, scratch), scratch / "source", source)
    if not (found / "pyproject.toml").is_file():
        raise UsageError(f"source {source!r} has no 'pyproject.toml' at its root: {FORMS} of upstream's repository")
    return found


def _cloned(url: str, to: Path) -> Path:
    address, mark, ref = url.rpartition("@")
    if not mark or "/" in ref:
        address, ref = url, ""
    branch = ["--branch", ref] if ref else []
    command = ["git", "clone", "--quiet", "--depth", "1", *branch, "--", address, str(to)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UsageError(f"source {url!r} needs git, which is not installed: install it, or give a folder") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or ["no reason given"]
        raise UsageError(f"source {url!r} cannot be cloned ({said[-1]}): {FORMS}") from error
    return to


def _downloaded(url: str, scratch: Path) -> Path:
    name = Path(urlsplit(url).path).name
    if not name.endswith((".zip", ".tar.gz", ".tgz")):
        raise UsageError(f"source {url!r} is not a form that is read: {FORMS}")
    path = scratch / name
    try:
        with httpx2.stream("GET", url, follow_redirects=True, timeout=60.0) as response, path.open("wb") as stream:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                stream.write(chunk)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UsageError(f"source {url!r} cannot be downloaded ({error}): {FORMS}") from error
    return path


def _unpacked(archive: Path, to: Path, url: str) -> Path:
    """The archive's one top folder."""
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(to)
        else:
            with tarfile.open(archive) as tarred:
                tarred.extractall(to, filter="data")
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UsageError(f"source {url!r} cannot be unpacked ({error}): {FORMS}") from error
    inside = list(to.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else to
