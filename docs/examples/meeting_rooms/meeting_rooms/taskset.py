"""Meetings to book and to move: rewarded are the diary and the answer."""

from collections.abc import Sequence
from typing import Any

import verifiers.v1 as vf

from meeting_rooms.servers.tool import RoomsState, RoomsToolset

SYSTEM = (
    "You keep the diary of a house with meeting rooms. Take the smallest room that is free and has a seat for all. "
    "Change nobody else's meeting. Say which room it is; where none fits, say that none is free."
)
ROWS: list[tuple[str, str, dict[str, str], tuple[str, ...], tuple[str, ...]]] = [
    ("book", "Ada here: a room for 4 people at 9, please.", {}, (), ("Ash 9",)),
    ("taken", "Ada here: a room for 3 people at 10, please.", {"Ash 10": "Ben"}, (), ("Birch 10",)),
    ("crowd", "Ada here: a room for 12 people at 14, please.", {"Ash 14": "Ben"}, (), ("Elm 14",)),
    (
        "move",
        "Ada here: we are 8 now, same hour.",
        {"Ash 11": "Ada", "Elm 11": "Ben"},
        ("Ash 11",),
        ("Cedar 11",),
    ),
    ("full", "Ada here: a room for 15 people at 16, please.", {"Elm 16": "Ben"}, (), ()),
]
"""Id, what the user says, the diary, what is to be cancelled, what is to be booked."""


class MeetingRoomsTaskConfig(vf.TaskConfig):
    """What a run can set."""

    tools: vf.ToolsetConfig = vf.ToolsetConfig()


class MeetingRoomsData(vf.TaskData):
    """One request."""

    diary: dict[str, str]
    cancels: tuple[str, ...]
    books: tuple[str, ...]


class MeetingRoomsTask(vf.Task[MeetingRoomsData, RoomsState, MeetingRoomsTaskConfig]):
    """Book as asked, and say where."""

    @classmethod
    def toolsets(cls, config: MeetingRoomsTaskConfig) -> list[vf.Toolset]:
        return [RoomsToolset(config.tools)]

    async def setup(self, trace: vf.Trace) -> None:
        trace.state.meetings = dict(self.data.diary)

    @vf.reward(weight=0.75)
    async def diary(self, trace: vf.Trace) -> float:
        kept = {place: who for place, who in self.data.diary.items() if place not in self.data.cancels}
        return float(trace.state.meetings == kept | dict.fromkeys(self.data.books, "Ada"))

    @vf.reward(weight=0.25)
    async def told(self, trace: vf.Trace) -> float:
        words = [place.split()[0] for place in self.data.books] or ["none"]
        return float(all(word in trace.last_reply for word in words))

    def oracle(self) -> Sequence[dict[str, Any] | str]:
        """How it is solved: trace-agents plays this as the ceiling; verifiers has no use for it."""
        places = [(name, place.split()) for name in ("cancel", "book") for place in getattr(self.data, name + "s")]
        calls = [{"name": f"rooms_{name}", "arguments": {"room": at[0], "hour": int(at[1])}} for name, at in places]
        for call in calls:
            call["arguments"] |= {"who": "Ada"} if call["name"] == "rooms_book" else {}
        rooms = [place.split()[0] for place in self.data.books]
        return [*calls, f"You meet in {rooms[0]}." if rooms else "I am sorry, none is free."]


class MeetingRoomsConfig(vf.TasksetConfig):
    """What a run can set."""

    task: MeetingRoomsTaskConfig = MeetingRoomsTaskConfig()


class MeetingRoomsTaskset(vf.Taskset[MeetingRoomsTask, MeetingRoomsConfig]):
    """Five requests."""

    def load(self) -> list[MeetingRoomsTask]:
        data = (
            MeetingRoomsData(id=name, prompt=said, system_prompt=SYSTEM, diary=diary, cancels=cancels, books=books)
            for name, said, diary, cancels, books in ROWS
        )
        return [MeetingRoomsTask(row, self.config.task) for row in data]
