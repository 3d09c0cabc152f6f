"""The reference for rewards: upstream alone, in its own Python, with a fresh environment for every trajectory.

`python tau2_reference.py WORKER_FOLDER < perturbed > rewards`, in JSON lines. Nothing of the adapter is used but, for a
Python without them, the stand-ins for `litellm` and `pandas`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Any


def judge(item: dict[str, Any]) -> dict[str, Any]:
    """Play the item's steps on upstream's environment, and let upstream judge."""
    from tau2.data_model.message import AssistantMessage, ToolCall, UserMessage
    from tau2.data_model.simulation import SimulationRun
    from tau2.data_model.tasks import Task
    from tau2.evaluator.evaluator import evaluate_simulation
    from tau2.registry import registry

    task = Task.model_validate(item["raw"])
    environment = registry.get_env_constructor(item["domain"])()
    initial = task.initial_state
    data, actions = (initial.initialization_data, initial.initialization_actions) if initial else (None, None)
    environment.set_state(data, actions, [])
    messages: list[Any] = []

    def act(role: str, name: str, arguments: dict[str, Any]) -> None:
        call = ToolCall(id=f"t{len(messages)}", name=name, arguments=arguments, requestor=role)
        kind = AssistantMessage if role == "assistant" else UserMessage
        messages.extend([kind(role=role, tool_calls=[call]), environment.get_response(call)])
        environment.sync_tools()

    runs, ended = user_runs(item["raw"]), False
    for step in item["steps"]:
        if "name" in step:
            act("assistant", step["name"], step["arguments"])
            continue
        messages.append(AssistantMessage(role="assistant", content=step["text"]))
        if not runs:
            ended = True
            break
        for action in runs.pop(0):
            act("user", action["name"], action["arguments"])
    run = SimulationRun(
        id="", task_id=task.id, start_time="", end_time="", duration=0.0,
        termination_reason="user_stop" if ended else "max_steps", messages=messages,
    )  # fmt: skip
    found = evaluate_simulation(run, task, kind(item["raw"]), False, item["domain"])
    parts = {part.value.lower(): value for part, value in (found.reward_breakdown or {}).items()}
    return {"reward": found.reward, "parts": parts}


def kind(raw: dict[str, Any]) -> Any:
    """The evaluation that upstream's `run_tasks` does, but for assertions in plain language that no reward is made of.

    It is `ALL`; in v1.0.0, which raises there, the one with those assertions.
    """
    from tau2.evaluator.evaluator import EvaluationType

    stated = "NL_ASSERTION" in ((raw["evaluation_criteria"] or {}).get("reward_basis") or ())
    return EvaluationType.ALL_WITH_NL_ASSERTIONS if stated else EvaluationType.ALL


def user_runs(raw: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The user's gold actions, in runs between the agent's."""
    runs: list[list[dict[str, Any]]] = []
    last = None
    for action in (raw["evaluation_criteria"] or {}).get("actions") or []:
        role = action.get("requestor", "assistant")
        if role == "user":
            if last != "user":
                runs.append([])
            runs[-1].append(action)
        last = role
    return runs


def main() -> None:
    """A line of rewards for each line of input; what upstream raises is an answer too."""
    if importlib.util.find_spec("litellm") is None:
        sys.path.insert(0, sys.argv[1])
        import standins

        standins.install()
    for line in sys.stdin:
        try:
            found = judge(json.loads(line))
        except Exception as error:
            found = {"raised": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
