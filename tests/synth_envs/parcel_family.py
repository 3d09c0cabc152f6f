"""A family for a target that is not the desk: a counter where a parcel must be weighed before it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trace_agents.types import Capability, Evaluation, Message, TaskInstance, ToolCall, ToolResult, ToolSpec, UserTurn

PARCEL = {"type": "object", "properties": {"parcel": {"type": "integer"}}, "required": ["parcel"]}
TOOLS = (
    ToolSpec(name="weigh", input_schema=PARCEL, annotations={"readOnlyHint": True}),
    ToolSpec(name="send", input_schema=PARCEL, annotations={"readOnlyHint": False}),
)
CAPABILITY = Capability(name="weigh-first", description="Weigh a parcel before sending it.")


class Counter:
    """An episode at the counter."""

    policy = "Weigh every parcel before you send it."

    def __init__(self, task: TaskInstance, tools: Sequence[ToolSpec]) -> None:
        self.task, self.tools = task, tools
        self.done: list[str] = []

    async def call(self, name: str, arguments: Mapping[str, object]) -> ToolResult:
        if arguments.get("parcel") != self.task.seed:
            return ToolResult(content="no such parcel", is_error=True)
        self.done.append(name)
        return ToolResult(content=f"parcel {self.task.seed}: {name} done")

    async def user_turn(self, message: str) -> UserTurn:
        return UserTurn()

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        success = self.done == ["weigh", "send"]
        return Evaluation(reward=1.0 if success else 0.1 * bool(self.done), success=success)

    async def close(self) -> None: ...


class Parcels:
    """The environment; also its own target."""

    def __init__(self, capability: Capability = CAPABILITY, tools: Sequence[ToolSpec] = TOOLS) -> None:
        self.name, self.capability, self._tools = f"synth/{capability.name}", capability, tools

    splits: Mapping[str, int] = {}

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        return ()

    def task(self, task_id: str) -> TaskInstance:
        return self.generate(int(task_id))

    def generate(self, seed: int) -> TaskInstance:
        return TaskInstance(
            id=str(seed), environment=self.name, seed=seed, prompt=f"Send parcel {seed}.", data={"n": seed}
        )

    async def start(self, task: TaskInstance) -> Counter:
        return Counter(task, self._tools)

    def oracle(self, task: TaskInstance) -> list[ToolCall | str]:
        arguments = {"parcel": task.seed}
        return [ToolCall(name="weigh", arguments=arguments), ToolCall(name="send", arguments=arguments), "Sent."]


class ParcelFamily:
    """The family (`synth_envs.contract.Family`)."""

    slug, target, capability = "weigh-first", "parcels", CAPABILITY

    def __init__(self, size: int = 1) -> None:
        self.parameters = {"size": size}

    def environment(self, capability: Capability | None = None) -> Parcels:
        return Parcels(capability or self.capability)

    def targets(self, task: TaskInstance) -> bool:
        return True

    def counterexample(self, task: TaskInstance) -> list[ToolCall | str]:
        return [ToolCall(name="send", arguments={"parcel": task.seed}), "Sent."]

    def easier(self) -> ParcelFamily | None:
        size = int(self.parameters["size"])
        return ParcelFamily(size - 1) if size > 1 else None
