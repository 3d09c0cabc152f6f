"""A benchmark in one file: a town's parking permits, where a permit may be moved once its owner's fines are paid."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from trace_agents.task_list import TaskList
from trace_agents.types import Action, Evaluation, Message, TaskInstance, ToolCall, ToolResult, ToolSpec, UserTurn

POLICY = "You are a clerk for parking permits. Look a permit up before you move it. Move none while a fine is open."
PLATE = {"type": "string", "description": "Number plate, such as 'KA-12'."}


def tool(name: str, description: str, **properties: Mapping[str, Any]) -> ToolSpec:
    """A tool all of whose arguments are required."""
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return ToolSpec(name=name, description=description, input_schema=schema)


TOOLS = (
    tool("find_permit", "The permit of a vehicle, and its open fines.", plate=PLATE),
    tool("pay_fines", "Pay all open fines of a vehicle.", plate=PLATE),
    tool("move_permit", "Move a permit to another vehicle.", plate=PLATE, new_plate=PLATE),
)
TASKS = {
    "train": [("KA-12", "KA-77", 0, ""), ("FR-03", "FR-88", 15, "You may pay my fines."), ("LB-40", "LB-41", 20, "")],
    "test": [("OG-21", "OG-22", 30, "You may pay my fines."), ("RA-05", "RA-06", 45, "")],
}
"""Split → plate, new plate, fines, and what the user adds."""


class ParkingEpisode:
    """One owner at the desk; nothing is shared with other episodes."""

    def __init__(self, task: TaskInstance) -> None:
        self.task, self.tools, self.policy = task, TOOLS, POLICY
        self._permits: dict[str, dict[str, Any]] = copy.deepcopy(task.data["permits"])

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run a tool; arguments fit its schema already when they come over MCP."""
        if name not in [spec.name for spec in TOOLS]:
            return ToolResult(content=f"no tool {name!r}", is_error=True)
        permit = self._permits.get(str(arguments.get("plate")))
        if permit is None:
            return ToolResult(content=f"no permit for {arguments.get('plate')!r}", is_error=True)
        if name == "pay_fines":
            permit["fines"] = 0
        elif name == "move_permit":
            self._permits[str(arguments["new_plate"])] = self._permits.pop(str(arguments["plate"]))
        return ToolResult(content=json.dumps(permit))

    async def user_turn(self, message: str) -> UserTurn:
        """The owner says everything at once, so that the agent's first text ends the conversation."""
        return UserTurn()

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """Success is the state that the policy leads to."""
        right = self._permits == self.task.data["wanted"]
        return Evaluation(reward=float(right), success=right, breakdown={"permits": float(right)})

    async def close(self) -> None:
        """Nothing to free."""


def _task(task_id: str, split: str, plate: str, new: str, fines: int, extra: str) -> TaskInstance:
    before = {plate: {"zone": "B", "fines": fines}}
    allowed = not fines or bool(extra)
    gold = [{"name": "find_permit", "arguments": {"plate": plate}}]
    gold += [{"name": "pay_fines", "arguments": {"plate": plate}}] if fines and allowed else []
    gold += [{"name": "move_permit", "arguments": {"plate": plate, "new_plate": new}}] if allowed else []
    wanted = {new: {"zone": "B", "fines": 0}} if allowed else before
    return TaskInstance(
        id=task_id,
        environment="parking",
        split=split,
        prompt=f"Please move my permit from {plate} to {new}. {extra}".strip(),
        data={"permits": before, "wanted": wanted, "gold": gold},
    )


class Parking(TaskList):
    """The benchmark: fixed tasks in two splits, and their gold actions."""

    name = "parking"
    instances: Mapping[str, TaskInstance] = {
        f"{split}-{number}": _task(f"{split}-{number}", split, *row)
        for split, rows in TASKS.items()
        for number, row in enumerate(rows)
    }

    async def start(self, task: TaskInstance) -> ParkingEpisode:
        """A fresh episode."""
        return ParkingEpisode(task)

    def oracle(self, task: TaskInstance) -> Sequence[Action]:
        """What a clerk who keeps the policy does."""
        return [ToolCall(**one) for one in task.data["gold"]] + ["That is all I can do today."]
