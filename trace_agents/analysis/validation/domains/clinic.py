"""A clinic's front desk: polite, undeclared tools, errors as JSON, everything asked for in one message."""

from __future__ import annotations

import json

from trace_agents.analysis.validation.play import Domain, Play, Request

_DOCTORS = ("Abel", "Brandt", "Cole", "Dietz", "Evers")


def _renewal(play: Play, state: str) -> Request:
    number = play.number("RX")
    seen = {"drug": play.scene.choice(("insulin", "statin", "inhaler")), "state": state, "refills": 2}

    def act() -> str:
        play.call("get_prescription", {"prescription_id": number}, seen)
        if state == "expired" and play.exercises("expired"):
            return "Sorry, it cannot be renewed."
        play.call("renew_prescription", {"prescription_id": number}, {"renewed": True})
        return "It is renewed."

    return Request(f"Please renew my prescription {number}.", act)


def _expired(play: Play) -> Request:
    return _renewal(play, "expired")


def _renew(play: Play) -> Request:
    return _renewal(play, "active")


def _bill(play: Play) -> Request:
    number, insurer = play.number("V"), play.scene.choice(("Allied", "Beacon", "Crest"))
    visit = {"insurer": insurer, "room": play.scene.randint(1, 9)}

    def act() -> str:
        payer = insurer if play.exercises("insurer") else "private"
        play.call("get_visit", {"visit_id": number}, visit)
        play.call("bill_visit", {"visit_id": number, "payer": payer}, {"billed": True})
        return "It is billed."

    return Request(f"Could you bill my visit {number}?", act)


def _held(play: Play) -> Request:
    number, slot = play.number("AP"), f"{play.scene.randint(8, 17)}:30"

    def act() -> str:
        arguments = {"appointment_id": number, "slot": slot}
        play.fail("reschedule", arguments, f"appointment {number} is on hold")
        if not play.exercises("hold"):
            return "Sorry, it is on hold."
        play.call("lift_hold", {"appointment_id": number}, {"hold": False})
        play.call("reschedule", arguments, {"moved": True})
        return "It is moved."

    return Request(f"Please move my appointment {number} to {slot}.", act)


def _result(play: Play) -> Request:
    number, value = play.number("LB"), f"{play.scene.randint(40, 90)}.{play.scene.randint(1, 9)}"

    def act() -> str:
        play.call("get_lab_result", {"test_id": number}, {"marker": "ferritin", "value": value})
        return f"It is {value}." if play.exercises("tell-result") else "It is in your file."

    return Request(f"What came out of my test {number}?", act)


def _assign(play: Play) -> Request:
    """Needs mastered skills only: picking the doctor by name, and looking before assigning."""
    number, doctor = play.number("AP"), play.scene.choice(_DOCTORS)
    staff = [{"doctor_id": f"D{index}", "name": name} for index, name in enumerate(_DOCTORS, 1)]
    chosen = next(one["doctor_id"] for one in staff if one["name"] == doctor)

    def act() -> str:
        play.call("list_doctors", {}, {"doctors": staff})
        play.call("assign_doctor", {"appointment_id": number, "doctor_id": chosen}, {"assigned": True})
        return "Done."

    return Request(f"Please put appointment {number} with {doctor}.", act)


def _page(play: Play) -> Request:
    def act() -> str:
        play.call("page_doctor", {"doctor_id": "D1"}, {"paged": True})
        return "You will be called."

    return Request("Please have the doctor call me at once.", act)


CLINIC = Domain(
    name="clinic",
    deficits={"expired": 0.25, "insurer": 0.2, "everything": 0.35, "hold": 0.3, "tell-result": 0.25},
    jobs={
        "expired": _expired,
        "renew": _renew,
        "bill": _bill,
        "held": _held,
        "result": _result,
        "assign": _assign,
        "page": _page,
    },
    tasks=(
        *("expired", "bill", "held", "result", "renew", "assign", "bill"),
        *("expired assign", "bill assign", "held assign", "assign renew", "page"),
    ),
    habit=lambda play: play.call("get_opening_hours", {}, {"opens": "08:00"}),
    error=lambda text: (json.dumps({"error": text}), True),
    everything="everything",
    hopeless=frozenset(("page",)),
    filler=("assign", "renew"),
)
