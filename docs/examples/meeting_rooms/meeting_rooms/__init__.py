"""A verifiers taskset: meeting rooms."""

from meeting_rooms.taskset import MeetingRoomsTaskset

__all__ = ["MeetingRoomsTaskset"]
