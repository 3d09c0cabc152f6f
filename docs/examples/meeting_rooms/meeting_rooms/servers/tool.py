"""The tools: verifiers starts a server of them for each rollout and exposes them as `rooms_free`, `rooms_book`, …"""

import verifiers.v1 as vf
from pydantic import Field

SEATS = {"Ash": 4, "Birch": 6, "Cedar": 10, "Elm": 20}
"""Room -> seats."""


class RoomsState(vf.State):
    """The house's diary, which the rewards read."""

    meetings: dict[str, str] = Field(default_factory=dict)
    """`ROOM HOUR` -> who meets there."""


class RoomsToolset(vf.Toolset[vf.ToolsetConfig, RoomsState]):
    """What a clerk can do."""

    TOOL_PREFIX = "rooms"

    @vf.tool
    def free(self, hour: int, people: int) -> list[str]:
        """The rooms that are free at `hour` and have a seat for all `people`, smallest first."""
        return [
            room for room, seats in SEATS.items() if seats >= people and f"{room} {hour}" not in self.state.meetings
        ]

    @vf.tool
    def find(self, who: str) -> list[str]:
        """Where and when someone meets, each as `ROOM HOUR`."""
        return [place for place, meets in self.state.meetings.items() if meets == who]

    @vf.tool
    def book(self, room: str, hour: int, who: str) -> str:
        """Book a room at an hour (8 to 18) for someone."""
        if room not in SEATS or not 8 <= hour <= 18:
            raise ValueError(f"there is no {room!r} at {hour}: rooms are {', '.join(SEATS)}, hours 8 to 18")
        if f"{room} {hour}" in self.state.meetings:
            raise ValueError(f"{room} is taken at {hour}")
        self.state.meetings[f"{room} {hour}"] = who
        return f"{room} is booked at {hour} for {who}"

    @vf.tool
    def cancel(self, room: str, hour: int) -> str:
        """Cancel the meeting in a room at an hour."""
        if self.state.meetings.pop(f"{room} {hour}", None) is None:
            raise ValueError(f"nobody meets in {room} at {hour}")
        return f"{room} is free at {hour}"


if __name__ == "__main__":
    RoomsToolset.run()
