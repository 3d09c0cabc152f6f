"""A university's registration office: informal students, verbs nobody planned for, results as nested lists."""

from __future__ import annotations

from trace_agents.analysis.validation.play import Domain, Play, Request

_COURSES = ("Topology", "Rhetoric", "Botany", "Statics", "Logic")


def _enrol(play: Play, missing: bool) -> Request:
    course, credits = play.number("C", 4), play.scene.randint(2, 9)
    facts = {"course": {"prerequisite": "missing" if missing else "met", "credits": credits, "form": "lecture"}}

    def act() -> str:
        play.call("courseInfo", {"courseCode": course}, facts)
        if missing and play.exercises("prerequisite"):
            return "You have not got what this one asks for, sorry."
        play.call("enrolStudent", {"courseCode": course}, {"enrolled": True})
        return "You're in."

    return Request(f"hey, can I get into {course}?", act)


def _enrol_missing(play: Play) -> Request:
    return _enrol(play, True)


def _enrol_met(play: Play) -> Request:
    return _enrol(play, False)


def _exam(play: Play) -> Request:
    course, room = play.number("C", 4), f"{play.scene.choice('GH')}{play.scene.randint(100, 399)}"
    day = f"2031-0{play.scene.randint(1, 9)}-{play.scene.randint(10, 28)}"

    def act() -> str:
        play.call("examPlan", {"courseCode": course}, {"exams": [{"room": room, "day": day}]})
        return f"Be in {room} on that day." if play.exercises("tell-room") else "It's all in the plan."

    return Request(f"which room is the exam of {course} in?", act)


def _swap(play: Play) -> Request:
    group = play.number("GR-", 3)

    def act() -> str:
        play.fail("swapGroup", {"group": group}, f"group {group} is full")
        if not play.exercises("waitlist"):
            return "That group is full."
        play.call("joinWaitlist", {"group": group}, {"position": 1})
        play.call("swapGroup", {"group": group}, {"swapped": True})
        return "Swapped."

    return Request(f"put me in group {group} instead", act)


def _thesis(play: Play) -> Request:
    student = play.number("ST", 6)
    tutors = [f"{name.lower()}.{play.scene.randint(10, 99)}" for name in play.scene.sample(("Hale", "Ito", "Juno"), 3)]

    def act() -> str:
        play.call("studentFile", {"studentId": student}, {"tutor": tutors[0], "faculty": "arts"})
        chosen = tutors[0] if play.exercises("own-tutor") else play.own.choice(tutors[1:])
        play.call("registerThesis", {"studentId": student, "supervisor": chosen}, {"registered": True})
        return "Registered."

    return Request(f"I'm {student}, sign up my thesis with my tutor", act)


def _papers(play: Play) -> Request:
    student = play.number("ST", 6)
    papers = [{"paperId": play.number("P-", 5), "kind": kind} for kind in ("form", "photo", "fee slip")]

    def act() -> str:
        play.call("openPapers", {"studentId": student}, {"papers": papers})
        for paper in papers if play.exercises("all-papers") else papers[: play.own.randint(1, 2)]:
            play.call("acceptPaper", {"paperId": paper["paperId"]}, {"accepted": True})
        return "Handed in."

    return Request(f"take in all my open papers, {student} here", act)


def _lookup(play: Play) -> Request:
    """Needs mastered skills only."""
    name = play.scene.choice(_COURSES)
    listed = [{"courseCode": play.number("C", 4), "title": title} for title in _COURSES]
    chosen = next(one["courseCode"] for one in listed if one["title"] == name)

    def act() -> str:
        play.call("catalogue", {"term": "spring"}, {"courses": listed})
        play.call("bookmark", {"courseCode": chosen}, {"saved": True})
        return "Saved."

    return Request(f"bookmark {name} for me", act)


def _grade(play: Play) -> Request:
    def act() -> str:
        play.call("gradeAppeal", {"reason": "unfair"}, {"filed": True})
        return "Filed."

    return Request("my grade is unfair", act)


CAMPUS = Domain(
    name="campus",
    deficits={"prerequisite": 0.2, "tell-room": 0.35, "waitlist": 0.25, "own-tutor": 0.3, "all-papers": 0.3},
    jobs={"missing": _enrol_missing, "met": _enrol_met, "exam": _exam, "swap": _swap, "thesis": _thesis}
    | {"papers": _papers, "lookup": _lookup, "grade": _grade},
    tasks=(
        *("missing", "swap", "exam", "thesis", "papers", "met", "missing lookup", "swap met", "papers lookup"),
        *("grade", "missing", "thesis lookup", "lookup", "swap"),
    ),
    habit=lambda play: play.call("termDates", {}, {"term": "spring"}),
    error=lambda text: (f"Failed: {text}", False),
    hopeless=frozenset(("grade",)),
    filler=("lookup", "met"),
)
