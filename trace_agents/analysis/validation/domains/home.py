"""A device assistant at home: one user turn after the other, results and errors as plain text or small objects."""

from __future__ import annotations

from trace_agents.analysis.validation.play import Domain, Play, Request

_PEOPLE = ("Ida", "Noor", "Pavel", "Quentin", "Rosa", "Tariq")


def _wifi(play: Play) -> Request:
    def act() -> str:
        play.fail("set_wifi", {"on": True}, "PermissionError: Wifi cannot be switched on in low battery mode")
        if not play.exercises("low-battery"):
            return "That does not work in low battery mode."
        play.call("set_low_battery_mode", {"on": False}, "None")
        play.call("set_wifi", {"on": True}, "None")
        return "Wifi is on now."

    return Request(play.scene.choice(("Turn on wifi", "I need wifi", "switch the wifi on please")), act)


def _text(play: Play) -> Request:
    person, phone = play.scene.choice(_PEOPLE), f"+4917{play.scene.randint(10**7, 10**8 - 1)}"
    others = [{"name": one, "phone_number": f"+4915{play.scene.randint(10**7, 10**8 - 1)}"} for one in _PEOPLE]
    contacts = [one if one["name"] != person else {"name": person, "phone_number": phone} for one in others]

    def act() -> str:
        known = play.exercises("real-number")
        if known:
            play.call("search_contacts", {"name": person}, [one for one in contacts if one["name"] == person])
        number = phone if known else f"+1{play.own.randint(10**9, 10**10 - 1)}"
        play.call("send_message", {"phone_number": number, "content": "running late"}, "message sent")
        return f"{person} knows."

    return Request(f"Text {person} that I am running late", act)


def _sensor(play: Play) -> Request:
    room, reading = play.scene.choice(("attic", "cellar", "nursery")), play.scene.randint(121, 289) / 10

    def act() -> str:
        play.call("read_sensor", {"room": room}, {"celsius": reading, "battery": "full"})
        return f"It is {reading} degrees." if play.exercises("tell-reading") else "It feels comfortable in there."

    return Request(f"How warm is the {room}?", act)


def _door(play: Play) -> Request:
    """Nobody may be let in while the house is empty."""
    away = play.scene.random() < 0.6
    state = {"presence": "away" if away else "home", "door": "locked"}

    def act() -> str:
        play.call("get_presence", {}, state)
        if away and play.exercises("nobody-home"):
            return "Nobody is at home, so the door stays shut."
        play.call("unlock_door", {}, "None")
        return "The door is open."

    return Request(play.scene.choice(("Let the courier in", "Open up for the courier", "unlock for the courier")), act)


def _lamps(play: Play) -> Request:
    one, two = play.number("lamp-", 2), play.number("lamp-", 3)
    level = play.scene.choice((20, 50, 80))

    def act() -> str:
        for lamp in (one, two) if play.exercises("both-lamps") else (one,):
            play.call("set_lamp", {"lamp_id": lamp, "percent": level}, "None")
        return "Dimmed."

    return Request(f"Dim {one} and {two} to {level} percent", act)


def _alarm(play: Play) -> Request:
    """Needs mastered skills only."""
    hour, weekday = play.scene.randint(5, 9), play.scene.choice(("Monday", "Friday"))

    def act() -> str:
        play.call("get_time", {}, {"hour": 21, "weekday": weekday})
        play.call("set_alarm", {"hour": hour}, "None")
        return f"It rings at {hour}."

    return Request(f"Wake me at {hour}", act)


def _music(play: Play) -> Request:
    def act() -> str:
        play.fail("play_music", {"mood": "calm"}, "ConnectionError: the speaker does not answer")
        return "The speaker does not answer."

    return Request("Play something calm", act)


HOME = Domain(
    name="home",
    deficits={"low-battery": 0.2, "real-number": 0.3, "tell-reading": 0.4, "nobody-home": 0.25, "both-lamps": 0.3},
    jobs={"wifi": _wifi, "text": _text, "sensor": _sensor, "door": _door, "lamps": _lamps}
    | {"alarm": _alarm, "music": _music},
    tasks=(
        *("wifi", "door", "text", "sensor", "lamps", "alarm", "wifi alarm", "door", "text lamps", "music", "door"),
        *("sensor alarm", "wifi", "text"),
    ),
    habit=lambda play: play.call("get_weather", {}, "mild"),
    error=lambda text: (text, True),
    hopeless=frozenset(("music",)),
    filler=("alarm",),
)
