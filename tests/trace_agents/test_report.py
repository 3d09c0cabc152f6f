"""The report is one page that makes no request, shows the run's figures and cannot be scripted by a trajectory."""

from __future__ import annotations

import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample_run import CONFIG, HOSTILE, trace, write_sample_analysis, write_sample_run

from trace_agents.analysis.aggregate import Verdicts
from trace_agents.analysis.agreement import Agreement
from trace_agents.analysis.analyst import RunLabels
from trace_agents.analysis.notes import AnalystNotes
from trace_agents.analysis.requests import Usage
from trace_agents.analysis.results import Analysis
from trace_agents.artifacts import EvaluationArtifact
from trace_agents.cli import main
from trace_agents.config import RunConfig
from trace_agents.errors import UsageError
from trace_agents.report import build_report, embed
from trace_agents.report.conversations import Cap, browse
from trace_agents.report.findings import read_capabilities, read_labels
from trace_agents.runstore import RunStore
from trace_agents.statistics import Interval
from trace_agents.types import Message, ToolCall, Trajectory

VOID = {"meta", "input", "br", "hr", "img", "link", "line", "circle", "rect", "polyline", "option"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"{tag} closes out of order at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_run(tmp_path_factory.mktemp("runs") / "sample")


@pytest.fixture(scope="module")
def source(run: Path) -> str:
    return build_report(run).read_text(encoding="utf-8")


def test_the_page_makes_no_request(source: str) -> None:
    page = Page(source)
    assert not [attrs for _, attrs in page.tags if attrs.get("src") or (attrs.get("href") or "#")[0] != "#"]
    assert not re.search(r"https?://|@import|url\(", source)
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_page_shows_every_arm_with_its_interval(run: Path, source: str) -> None:
    evaluation = RunStore.open(run, write=False).read_json("evaluation.json", EvaluationArtifact)
    text = " ".join(Page(source).text)
    for arm in evaluation.arms:
        assert arm.name in text
        assert f"{100 * arm.pass_rate.value:.1f} %" in text
        assert f"{100 * arm.pass_rate.low:.1f} – {100 * arm.pass_rate.high:.1f}" in text
    charts = [attrs for tag, attrs in Page(source).tags if tag == "svg" and "interval kind-" in (attrs["class"] or "")]
    assert len(charts) == len(evaluation.arms)


def test_the_page_shows_capabilities_certificates_curves_and_cost(source: str) -> None:
    text = " ".join(Page(source).text)
    wanted = ("Verify identity", "not kept", "of 10 runs, 8 needed; mean Δ", "helpdesk/recover-from-lock", "variance")
    assert [words for words in wanted if words not in text] == []
    panels = [attrs for tag, attrs in Page(source).tags if tag == "svg" and attrs["class"] == "panel"]
    assert len(panels) == 3 * 4
    assert "120" in text
    assert "1.77 GiB" in text


def data_of(source: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', source, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_what_a_trajectory_says_stays_text(source: str) -> None:
    data = data_of(source)
    said = next(t for t in data["trajectories"] if t["id"] == "trace-0001")["turns"][0]["text"]
    assert said.endswith(HOSTILE)
    assert source.count("<script") == 2
    assert "<img" not in source


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "a & b", "\u2028", "\ud800", "plain"])
def test_embedded_data_never_leaves_its_element(text: str) -> None:
    out = embed({"text": text})
    assert not set("<>&\u2028\u2029") & set(out)
    assert json.loads(out)["text"] == text.encode("utf-8", "replace").decode()


def test_evidence_links_lead_to_trajectories_on_the_page(source: str) -> None:
    there = {trajectory["id"] for trajectory in data_of(source)["trajectories"]}
    links = [attrs["href"] for _, attrs in Page(source).tags if (attrs.get("href") or "").startswith("#t=")]
    assert len(links) > 20
    assert {link[3:] for link in links if link} <= there


def test_a_run_that_only_began_has_a_report(tmp_path: Path) -> None:
    RunStore.create(tmp_path / "young", RunConfig.parse(CONFIG)).close()
    text = " ".join(Page(build_report(tmp_path / "young").read_text()).text)
    assert "No stage has ended yet" in text
    assert "Pass rate" not in text


def test_the_page_is_the_same_for_the_same_run(run: Path, source: str, tmp_path: Path) -> None:
    assert build_report(run, tmp_path / "again.html").read_text() == source


def test_the_sample_run_has_traces_that_verifiers_reads(run: Path) -> None:
    from training.rollouts import read_traces, trajectory_from_trace

    trajectories = [trajectory_from_trace(trace) for trace in read_traces(run / "trajectories.jsonl")]
    shown = {one["id"]: one for one in browse([run / "trajectories.jsonl"]).conversations}
    assert len(trajectories) == 120
    for trajectory in trajectories:
        one = shown[trajectory.id]
        seen = (
            one["task"],
            one["env"],
            one["agent"],
            one["ok"],
            one["reward"] if trajectory.reward is not None else None,
        )
        assert seen == (
            trajectory.task_id,
            trajectory.environment,
            trajectory.agent,
            trajectory.success,
            trajectory.reward,
        )
        assert [turn["at"] for turn in one["turns"]] == list(range(len(trajectory.messages)))
        assert [turn.get("error", False) for turn in one["turns"]] == [said.is_error for said in trajectory.messages]


def write_lines(path: Path, rows: list) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_a_large_run_is_capped_with_evidence_first(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = write_lines(tmp_path / "t.jsonl", [trace(i, rng) for i in range(200)])
    found = browse([path], ["trace-0199"], Cap(trajectories=10))
    assert [one["id"] for one in found.conversations][:2] == ["trace-0199", "trace-0000"]
    assert (len(found.conversations), found.total, found.failures) == (11, 200, 4)


def test_a_long_message_is_cut_and_says_so(tmp_path: Path) -> None:
    row = {"id": "a", "messages": [{"role": "user", "content": "x" * 100}], "success": True}
    found = browse([write_lines(tmp_path / "t.jsonl", [row])], cap=Cap(message=40))
    assert found.conversations[0]["turns"][0]["text"].endswith("… 60 more characters")


def test_light_trajectories_are_browsed_like_traces(tmp_path: Path) -> None:
    light = Trajectory(
        id="one",
        task_id="task-7",
        environment="airline",
        agent="gpt",
        messages=(
            Message(role="user", content="hello"),
            Message(role="assistant", tool_calls=(ToolCall(name="look", arguments={"a": 1}),)),
            Message(role="tool", content="gone", name="look", is_error=True),
        ),
        reward=0.0,
        success=False,
    )
    (found,) = browse([write_lines(tmp_path / "t.jsonl", [light.model_dump_json()])]).conversations
    assert (found["task"], found["env"], found["agent"], found["ok"]) == ("task-7", "airline", "gpt", False)
    assert found["turns"][1]["calls"] == [{"name": "look", "arguments": {"a": 1}}]
    assert found["turns"][2]["error"] is True


def test_only_the_branch_on_which_the_episode_ended_is_shown(tmp_path: Path) -> None:
    nodes = [
        {"parent": None, "message": {"role": "system", "content": "policy"}},
        {"parent": 0, "message": {"role": "user", "content": "first"}},
        {"parent": 1, "message": {"role": "assistant", "content": "left behind"}},
        {"parent": None, "message": {"role": "system", "content": "policy"}},
        {"parent": 3, "message": {"role": "user", "content": "first"}},
        {"parent": 4, "message": {"role": "assistant", "content": "kept"}},
    ]
    (found,) = browse([write_lines(tmp_path / "t.jsonl", [{"id": "a", "ok": True, "nodes": nodes}])]).conversations
    assert [(turn["at"], turn["text"]) for turn in found["turns"]] == [(0, "first"), (1, "kept")]


def test_a_trace_that_infrastructure_failed_has_no_verdict(tmp_path: Path) -> None:
    row = {"id": "a", "ok": False, "nodes": [], "metrics": {"success": 0.0}, "errors": [{"message": "server gone"}]}
    (found,) = browse([write_lines(tmp_path / "t.jsonl", [row])]).conversations
    assert (found["ok"], found["error"]) == (None, "server gone")


def test_a_malformed_trajectory_line_is_named_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 2 of"):
        browse([write_lines(tmp_path / "t.jsonl", ["{}", "{oops"])])


def test_labels_of_several_runs_become_the_majority_with_its_step(tmp_path: Path) -> None:
    rows = [
        {"run": run, "trajectory_id": name, "capability": "c", "label": label, "step": run}
        for name in ("t", "not embedded")
        for run, label in enumerate(("PRESENT", "LACKING", "LACKING"))
    ]
    found = read_labels(write_lines(tmp_path / "l.jsonl", rows), {"t"})
    assert found == {"t": {"c": {"label": "LACKING", "share": 0.667, "step": 1}}}
    with pytest.raises(UsageError, match=r"line 1 of .* has no 'step'"):
        read_labels(
            write_lines(tmp_path / "m.jsonl", [{"trajectory_id": "t", "capability": "c", "label": "NA"}]), {"t"}
        )


@pytest.mark.parametrize(
    ("given", "label", "step"),
    [
        ([("LACKING", 2), ("PRESENT", 4)], "PRESENT", 4),
        ([("LACKING", 2), ("NA", None)], "NA", None),
        ([("LACKING", 2), ("LACKING", 6), ("LACKING", 6)], "LACKING", 6),
    ],
)
def test_the_page_settles_ties_of_labels_and_steps_as_the_analysis_does(
    tmp_path: Path, given: list[tuple[str, int | None]], label: str, step: int | None
) -> None:
    rows = [
        {"run": run, "trajectory_id": "t", "capability": "c", "label": said, "step": at}
        for run, (said, at) in enumerate(given)
    ]
    shown = read_labels(write_lines(tmp_path / "l.jsonl", rows), {"t"})["t"]["c"]
    runs = [
        RunLabels(run=run, trajectory_ids=("t",), labels={"c": said[0]}, steps={"c": (at,)})
        for run, (said, at) in enumerate(given)
    ]
    assert (shown["label"], shown["step"]) == (label, step) == Verdicts(runs).get("c", "t")


def test_an_analysis_of_another_schema_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "capabilities.json"
    path.write_text(json.dumps({"version": 7, "capabilities": []}))
    with pytest.raises(UsageError, match=r"not an analysis that this package reads .*: run the analysis again"):
        read_capabilities(path)
    path.write_text("{oops")
    with pytest.raises(UsageError, match="run the analysis again"):
        read_capabilities(path)


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Analysis]:
    folder = tmp_path_factory.mktemp("analysis")
    return folder, write_sample_analysis(folder)


def test_an_analysis_on_its_own_has_a_page_of_the_same_parts(analysis: tuple[Path, Analysis]) -> None:
    folder, found = analysis
    source = build_report(folder).read_text(encoding="utf-8")
    page = Page(source)
    text = " ".join(" ".join(page.text).split())
    assert "What the agent lacks" in text
    assert not re.search(r"https?://|@import|url\(", source)
    for candidate in found.summary.capabilities:
        assert candidate.capability.title in text
        assert candidate.selection.reason in text
    assert "unsure:" not in text
    (kept,) = found.kept
    assert kept.delta_interval is not None
    assert f"{kept.delta_interval.low:.2f} to {kept.delta_interval.high:.2f}" in text
    gauges = [attrs for tag, attrs in page.tags if tag == "svg" and (attrs["class"] or "").startswith("measure")]
    assert len(gauges) == 2 * len(found.summary.capabilities)
    cells = [attrs for tag, attrs in page.tags if tag == "td" and attrs.get("class") == "num cell"]
    assert len(cells) == 2
    assert build_report(folder, folder / "again.html").read_text(encoding="utf-8") == source


@pytest.mark.parametrize(
    ("tasks", "changed", "told"),
    [
        (12, {"delta_interval": Interval(low=0.0, high=1.0)}, "unsure: Δ may be 0.00, 0.20 is needed"),
        (12, {"coverage_interval": Interval(low=0.04, high=0.3)}, "unsure: coverage may be 0.04, 0.10 is needed"),
        (12, {"delta_interval": Interval(low=0.2, high=1.0)}, ""),
        (1, {"delta_interval": None, "coverage_interval": None}, "unsure: one task gives no interval"),
    ],
)
def test_page_and_table_say_where_what_was_kept_is_unsure(
    tasks: int, changed: dict[str, Interval], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = write_sample_analysis(tmp_path)
    listed = tuple(one.model_copy(update=changed) for one in found.summary.capabilities)
    summary = found.summary.model_copy(update={"capabilities": listed, "tasks": tasks})
    found.model_copy(update={"summary": summary}).write(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    text = " ".join(" ".join(Page((tmp_path / "report.html").read_text(encoding="utf-8")).text).split())
    for shown in (printed, text):
        assert (told in shown, "unsure:" in shown) == (True, bool(told))


def test_each_piece_of_evidence_stands_beside_a_success_on_its_task(analysis: tuple[Path, Analysis]) -> None:
    folder, found = analysis
    source = build_report(folder).read_text(encoding="utf-8")
    sides = [attrs for tag, attrs in Page(source).tags if tag == "section" and attrs.get("class") == "side"]
    embedded = {one["id"]: one for one in data_of(source)["trajectories"]}
    for side in sides:
        one = embedded[str(side["data-trajectory"])]
        assert one["ok"] is (side["data-label"] == "PRESENT")
        assert int(str(side["data-step"])) in [turn["at"] for turn in one["turns"]]
    pairs = [one for candidate in found.summary.capabilities for one in candidate.evidence if one.contrast_id]
    assert pairs
    assert source.count("✓ succeeded</span> trial ") == source.count("✓ succeeded</span>") > 0
    assert all(embedded[one.trajectory_id]["task"] == embedded[str(one.contrast_id)]["task"] for one in pairs)


def test_the_page_says_how_far_two_analysts_agree_only_where_two_looked(tmp_path: Path) -> None:
    write_sample_analysis(tmp_path)
    assert "two analysts" not in build_report(tmp_path).read_text(encoding="utf-8")
    write_sample_analysis(tmp_path, agreement=0.65)
    source = build_report(tmp_path).read_text(encoding="utf-8")
    assert "two analysts" in source
    assert '<td class="num" data-label="two analysts">0.65</td>' in source


def test_the_page_says_what_a_reader_took_and_where_the_statistics_agree(tmp_path: Path) -> None:
    write_sample_analysis(tmp_path, agreement=0.65)
    like = Agreement(capability="look-up", other="s", other_title="Looks & acts", kappa=0.65, overlap=0.5, agrees=True)
    usage = Usage(answered=9, refused=1, input_tokens=9000, output_tokens=90)
    AnalystNotes(
        analyst="a:model",
        prompts="p",
        context_tokens=1000,
        usage=usage,
        cost=0.03,
        answered_by={"Ann & Bo": 9},
        statistics=(like,),
        statistics_alone=("Tells <b>",),
    ).write(tmp_path)
    text = "".join(Page(build_report(tmp_path).read_text(encoding="utf-8")).text)
    assert "The statistics agree: “Looks & acts”, κ 0.65, 50 % of the failures that either calls lacking." in (
        text.replace("\u202f", " ")
    )
    assert "the statistics alone keep “Tells <b>”" in text
    assert (
        "9 requests answered by a:model; 1 answers refused and asked again; 9,000 tokens read, 90 written; cost 0.03; "
        "answers by Ann & Bo (9)"
    ) in text


def test_the_page_of_a_huge_analysis_stays_small_and_keeps_its_evidence(tmp_path: Path) -> None:
    found = write_sample_analysis(tmp_path, tasks=600, talk="word " * 6_000)
    path = build_report(tmp_path)
    assert path.stat().st_size < 5_000_000
    embedded = {one["id"] for one in data_of(path.read_text(encoding="utf-8"))["trajectories"]}
    assert set(found.summary.named) <= embedded
    assert len(embedded) > len(found.summary.named)
