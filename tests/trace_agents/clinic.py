"""A clinic's front desk with planted deficits, mastered skills and confounders: trajectories with known truth.

Nothing here is like a shop, and no tool is annotated. Whether a need is exercised is drawn for each trajectory.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from talks import Call, User, talk

from trace_agents.types import Trajectory

NEEDS = ("expired", "insurer", "everything", "hold", "tell-result")
"""Refuse to renew an expired prescription; bill the insurer on file; see to both appointments that the caller names;
lift a hold and reschedule again; tell the laboratory's value."""
DOCTORS = ("Abel", "Brandt", "Cole", "Dietz", "Evers")


@dataclass
class Clinic:
    """A generator of trajectories."""

    seed: int = 0
    exercised: float = 0.25
    """Probability that a trajectory exercises a need of its task."""
    noise: float = 0.05
    """Probability that something else goes wrong."""
    lacking: dict[str, set[str]] = field(default_factory=lambda: {need: set() for need in NEEDS})
    """Need → ids of the trajectories that lacked it, filled as they are made."""

    def trajectories(self, tasks: int = 40, trials: int = 8) -> list[Trajectory]:
        """`trials` trajectories of each task."""
        rng = random.Random(f"clinic-{self.seed}")
        kinds = ["expired", "insurer", "hold", "tell-result", "plain-renewal", "plain-move", "expired everything"]
        kinds += ["insurer everything", "hold everything", "tell-result everything", "hopeless"]
        made = []
        for index in range(tasks):
            scene = rng.getrandbits(32)
            needs = kinds[index % len(kinds)].split()
            made += [self._play(f"task-{index:02d}", trial, needs, scene, rng) for trial in range(trials)]
        return made

    def _play(self, task: str, trial: int, needs: list[str], scene: int, rng: random.Random) -> Trajectory:
        self._scene, self._trial = random.Random(scene), rng
        self._done = {need: rng.random() < self.exercised for need in NEEDS}
        self._lacked: set[str] = set()
        words, turns = [], []
        for need in [one for one in needs if one != "everything"]:
            said, steps = getattr(self, "_" + need.replace("-", "_"))()
            words.append(said)
            turns += steps
        if "everything" in needs:
            said, steps = self._move()
            words.append(said)
            if self._done["everything"]:
                turns += steps
            else:
                self._lacked.add("everything")
        if rng.random() < 0.5:  # A harmless habit, unrelated to success.
            turns.insert(0, Call("get_opening_hours", {}, {"opens": "08:00"}))
        success = not self._lacked and "hopeless" not in needs and rng.random() >= self.noise
        made = talk(User(" Also, ".join(words)), *turns, task=task, trial=trial, success=success)
        for need in self._lacked:
            self.lacking[need].add(made.id)
        return made

    def _exercise(self, need: str) -> bool:
        if not self._done[need]:
            self._lacked.add(need)
        return self._done[need]

    def _number(self, prefix: str) -> str:
        return f"{prefix}{self._scene.randint(100, 999)}"

    def _expired(self) -> tuple[str, list[Call | str]]:
        return self._renewal("expired", refuse=self._exercise("expired"))

    def _plain_renewal(self) -> tuple[str, list[Call | str]]:
        return self._renewal("active", refuse=False)

    def _renewal(self, state: str, refuse: bool) -> tuple[str, list[Call | str]]:
        number = self._number("RX")
        drug = self._scene.choice(("insulin", "statin", "inhaler"))
        seen = Call("get_prescription", {"prescription_id": number}, {"drug": drug, "state": state, "refills": 2})
        renew = Call("renew_prescription", {"prescription_id": number}, {"renewed": True})
        steps = [seen, "Sorry, it cannot be renewed."] if refuse else [seen, renew, "It is renewed."]
        return f"Please renew my prescription {number}.", steps

    def _insurer(self) -> tuple[str, list[Call | str]]:
        number, insurer = self._number("V"), self._scene.choice(("Allied", "Beacon", "Crest"))
        payer = insurer if self._exercise("insurer") else "private"
        seen = Call("get_visit", {"visit_id": number}, {"insurer": insurer, "room": self._scene.randint(1, 9)})
        bill = Call("bill_visit", {"visit_id": number, "payer": payer}, {"billed": True})
        return f"Could you bill my visit {number}?", [seen, bill, "It is billed."]

    def _hold(self) -> tuple[str, list[Call | str]]:
        number, slot = self._number("AP"), f"{self._scene.randint(8, 17)}:30"
        move = Call("reschedule", {"appointment_id": number, "slot": slot}, {"moved": True})
        held = move._replace(error=f"appointment {number} is on hold")
        lift = Call("lift_hold", {"appointment_id": number}, {"hold": False})
        recovered = self._exercise("hold")
        steps = [held, lift, move, "It is moved."] if recovered else [held, "Sorry, it is on hold."]
        return f"Please move my appointment {number} to {slot}.", steps

    def _tell_result(self) -> tuple[str, list[Call | str]]:
        number, value = self._number("LB"), f"{self._scene.randint(40, 90)}.{self._scene.randint(1, 9)}"
        seen = Call("get_lab_result", {"test_id": number}, {"marker": "ferritin", "value": value})
        told = f"It is {value}." if self._exercise("tell-result") else "It is in your file."
        return f"What came out of my test {number}?", [seen, told]

    def _move(self) -> tuple[str, list[Call | str]]:
        return self._plain_move()

    def _plain_move(self) -> tuple[str, list[Call | str]]:
        """Needs only the mastered skills: picking the doctor by name, and looking before moving."""
        number, doctor = self._number("AP"), self._scene.choice(DOCTORS)
        staff = [{"doctor_id": f"D{index}", "name": name} for index, name in enumerate(DOCTORS, 1)]
        chosen = next(one["doctor_id"] for one in staff if one["name"] == doctor)
        assign = Call("assign_doctor", {"appointment_id": number, "doctor_id": chosen}, {"assigned": True})
        return f"Please put appointment {number} with {doctor}.", [
            Call("list_doctors", {}, {"doctors": staff}),
            assign,
            "Done.",
        ]

    def _hopeless(self) -> tuple[str, list[Call | str]]:
        """What everyone fails, whatever they do: the task is at fault."""
        page = Call("page_doctor", {"doctor_id": "D1"}, {"paged": True})
        return "Please have the doctor call me at once.", [page, "You will be called."]
