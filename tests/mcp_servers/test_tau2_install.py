"""Installing τ²-bench: what is read, what is refused, and where it is looked for."""

from __future__ import annotations

import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mcp_servers.benchmark.source import fetch
from mcp_servers.benchmark.users import UserKind
from mcp_servers.tau2 import install
from mcp_servers.tau2.provenance import release_of
from mcp_servers.tau2.settings import RELEASES, Tau2Installation, read_settings, release
from trace_agents.cli import main
from trace_agents.errors import UsageError


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A source tree with a project in it."""
    folder = tmp_path / "upstream-1"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\nname = 'tau2'\n")
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *given: object) -> None: ...


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """`tmp_path` behind a URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_folder_is_used_where_it_is(repository: Path, tmp_path: Path) -> None:
    assert fetch(str(repository), tmp_path) == repository


def test_an_archive_is_downloaded_and_unpacked(repository: Path, site: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as archive:
        archive.add(repository, "tau2-bench-0.2.0")
    (tmp_path / "scratch").mkdir()
    found = fetch(f"{site}/made.tar.gz", tmp_path / "scratch")
    assert (found.name, (found / "pyproject.toml").read_text()) == (
        "tau2-bench-0.2.0",
        (repository / "pyproject.toml").read_text(),
    )


def test_a_git_repository_is_cloned_at_the_tag(repository: Path, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *words], cwd=repository, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git("tag", "v1")
    (repository / "pyproject.toml").unlink()
    git("commit", "-q", "-a", "-m", "second")
    assert (fetch(f"git+file://{repository}@v1", tmp_path / "one") / "pyproject.toml").is_file()
    with pytest.raises(UsageError, match=r"has no 'pyproject.toml' at its root"):
        fetch(f"git+file://{repository}", tmp_path / "two")
    with pytest.raises(UsageError, match="cannot be cloned"):
        fetch(f"git+file://{repository}@v9", tmp_path / "three")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("made.rar", "is not a form that is read: give a folder"),
        ("gone.zip", "cannot be downloaded"),
        ("broken.zip", "cannot be unpacked"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(path: str, wanted: str, site: str, tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_text("not an archive")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(UsageError, match=wanted):
        fetch(f"{site}/{path}", tmp_path / "scratch")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["install", "tau2"], "--from is missing: give upstream's repository of benchmark 'tau2'"),
        (["install", "tau3"], "unknown benchmark 'tau3': use one of 'tau2'"),
        (["remove"], "unknown action 'remove': use one of 'check', 'install', 'show'"),
        (["show"], "benchmark 'tau2' is not installed in"),
        (["check"], "benchmark 'tau2' is not installed in"),
        (["check", "--domain", "banking"], "unknown domain 'banking': use one of 'airline', 'mock'"),
        (["install", "--from", "nowhere"], "source 'nowhere' has no 'pyproject.toml' at its root: give a folder"),
    ],
)
def test_bad_commands_are_one_line_and_code_2(
    words: list[str], wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmarks", *words, "--folder", str(tmp_path / "home")]) == 2
    assert wanted in capsys.readouterr().err
    assert not list((tmp_path / "home").rglob("made-*"))


def test_a_source_with_other_data_is_refused_before_anything_is_made(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "home"
    assert main(["benchmarks", "install", "--from", str(repository), "--folder", str(folder)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert list((folder / "tau2").iterdir()) == []


@pytest.mark.parametrize(("version", "name"), [("1.0.4", "v1.0.1"), ("0.2.1", "v0.2.0"), ("3.0.0", "v1.0.1")])
def test_other_code_is_held_against_the_newest_known_release_of_its_major_version(
    version: str, name: str, repository: Path
) -> None:
    (repository / "pyproject.toml").write_text(f'[project]\nname = "tau2"\nversion = "{version}"\n')
    assert release_of(repository) == name


def test_every_release_states_requirements_code_data_and_tools_of_every_domain() -> None:
    for name in RELEASES:
        assert Path(install.__file__).with_name(install.REQUIREMENTS.format(name)).is_file()
        known = release(name)
        assert len(known["code"]["tau2"]) == 64
        for domain in install.DOMAINS:
            assert f"tau2/domains/{domain}/tasks.json" in known["data"]
            assert {f"{domain}/agent", f"{domain}/user"} <= set(known["tools"])


def test_the_judging_model_is_named_by_variables(tmp_path: Path) -> None:
    made = Tau2Installation(python=tmp_path, data=tmp_path, source=".", revision="v1.0.1", release="v1.0.1")
    (tmp_path / "tau2").mkdir()
    (tmp_path / "tau2" / "install.json").write_text(made.model_dump_json())
    named = {"TRACE_AGENTS_BENCHMARKS": str(tmp_path)}
    assert (read_settings(named).judge, read_settings(named).release) == (None, "v1.0.1")
    asked = {"TRACE_AGENTS_JUDGE_URL": "http://j/v1", "TRACE_AGENTS_JUDGE_KEY": "secret"}
    with pytest.raises(
        UsageError, match=r"TRACE_AGENTS_JUDGE_URL 'http://j/v1' is no judge without TRACE_AGENTS_JUDGE_MODEL"
    ):
        read_settings(named | asked)
    judge = read_settings(named | asked | {"TRACE_AGENTS_JUDGE_MODEL": "m"}).judge
    assert judge is not None
    assert (judge.url, judge.model, judge.key) == ("http://j/v1", "m", "secret")


def test_variables_go_before_what_was_installed(tmp_path: Path) -> None:
    made = Tau2Installation(python=tmp_path / "python", data=tmp_path, source=".", revision="v0.2.0", accept=("a",))
    (tmp_path / "tau2").mkdir()
    (tmp_path / "tau2" / "install.json").write_text(made.model_dump_json())
    named = {"TRACE_AGENTS_BENCHMARKS": str(tmp_path)}
    plain = read_settings(named)
    assert (plain.data, plain.accept, plain.user.kind) == (tmp_path, ("a",), UserKind.MODEL)
    asked = {"TRACE_AGENTS_USER_URL": "http://u/v1", "TRACE_AGENTS_USER_MODEL": "m", "TRACE_AGENTS_USER_KEY": "secret"}
    other = read_settings(named | asked | {"TAU2_DATA_DIR": "/data", "TRACE_AGENTS_TAU2_ACCEPT": "b, c"})
    assert (other.data, other.accept) == (Path("/data"), ("a", "b", "c"))
    assert (other.user.url, other.user.model, other.user.key) == ("http://u/v1", "m", "secret")
    assert "secret" not in repr(other)
    with pytest.raises(UsageError, match="unknown simulated user in TRACE_AGENTS_USER 'human'"):
        read_settings(named | {"TRACE_AGENTS_USER": "human"})
    (tmp_path / "tau2" / "install.json").write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        read_settings(named)
