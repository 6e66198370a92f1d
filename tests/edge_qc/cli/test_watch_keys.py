"""The keys of `edge-qc watch`: what they choose, and in a real terminal what is seen."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import termios
import time

import pytest
from rich.console import Console

from edge_qc.cli.keys import Choice, split
from edge_qc.cli.screen import picture
from edge_qc.cli.tally import Tally
from tests.edge_qc.cli.test_watch import ROOT, RUNNING, TOPIC, WATCH, publish, verdict


def tally_of(*labels: str) -> Tally:
    tally = Tally()
    for seq, label in enumerate(labels, 1):
        tally.add(TOPIC + "verdict", verdict(seq, label=label, die=f"Die0{seq % 2 + 1}"), 0.0)
    return tally


def shown(tally: Tally, choice: Choice) -> str:
    console = Console(width=160, height=60, record=True, file=io.StringIO())
    console.print(picture(tally, "broker", None, 60, choice))
    return console.export_text()


def labels(tally: Tally, choice: Choice) -> list[str]:
    return [verdict.label for _, verdict in choice.rows(tally)]


def test_keys_go_through_the_filters_and_back_to_all() -> None:
    tally, choice = tally_of("GOOD", "Missing", "GOOD", "flat"), Choice()
    choice.press("n", tally)
    assert labels(tally, choice) == ["Missing", "flat"]
    choice.press("n", tally)
    seen = []
    for _ in range(4):
        choice.press("v", tally)
        seen.append((choice.label, len(labels(tally, choice))))
    assert seen == [("GOOD", 2), ("Missing", 1), ("flat", 1), (None, 4)]
    choice.press("d", tally)
    choice.press("s", tally)
    assert labels(tally, choice) == ["Missing", "flat"]
    assert choice.words(tally) == "s/n, Die01"
    choice.press("c", tally)
    assert len(labels(tally, choice)) == 4


def test_80_columns_show_how_to_quit_and_the_whole_time() -> None:
    console = Console(width=80, height=60, record=True, file=io.StringIO())
    tally = tally_of("GOOD", "Missing")
    console.print(picture(tally, "broker", None, 60))
    page = console.export_text()
    assert "q quit" in page
    assert all(f"{one.time:%H:%M:%S.%f}"[:-3] in page for _, one in tally.last)


def test_a_paused_list_stands_still_while_counting_goes_on() -> None:
    tally, choice = tally_of("GOOD", "Missing"), Choice()
    choice.press("pause", tally)
    tally.add(TOPIC + "verdict", verdict(3, label="flat"), 0.0)
    assert labels(tally, choice) == ["GOOD", "Missing"]
    assert choice.words(tally) == "paused, 1 more arrived"
    assert "3 verdicts" in shown(tally, choice)
    choice.press("pause", tally)
    assert labels(tally, choice) == ["GOOD", "Missing", "flat"]


def test_a_chosen_verdict_stays_chosen_and_opens_in_full() -> None:
    tally, choice = tally_of("GOOD", "Missing", "flat"), Choice()
    for key in ("up", "up", "up", "up", "down"):
        choice.press(key, tally)
    tally.add(TOPIC + "verdict", verdict(4), 0.0)
    assert "►" in next(line for line in shown(tally, choice).splitlines() if "Missing" in line[9:])
    choice.press("enter", tally)
    page = shown(tally, choice)
    for words in ("verdict_id", "e1-2", "drift.witnesses", "expected_cost.Missing", "2500.0"):
        assert words in page
    choice.press("quit", tally)
    assert not choice.over
    assert "e1-2" not in shown(tally, choice)
    choice.press("quit", tally)
    assert choice.over


def test_keys_without_anything_to_choose_do_no_harm() -> None:
    tally, choice = Tally(), Choice()
    for key in ("up", "enter", "back", "s", "d", "v", "n", "c", "pause", "enter", "x", ""):
        choice.press(key, tally)
        shown(tally, choice)
    assert not choice.over


def test_what_a_terminal_sends_becomes_keys() -> None:
    assert split("\x1b[A\x1bOBj\r q\x1b") == [
        "up",
        "down",
        "down",
        "enter",
        "pause",
        "quit",
        "back",
    ]
    assert split("x\x1b[Z") == ["x", "\x1b[Z"]


@pytest.mark.broker
def test_in_a_real_terminal(mosquitto: tuple[str, int]) -> None:
    """Pause, choose, open in full, go back, quit: and the terminal is as it was."""
    publish(mosquitto, ("state", RUNNING), retain=True)
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    watch = subprocess.Popen(
        [*WATCH, "--broker", f"{mosquitto[0]}:{mosquitto[1]}"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "60"},
    )

    def until(words: str) -> None:
        seen, until_s = "", time.monotonic() + 15
        while words not in seen:
            assert time.monotonic() < until_s, seen[-3000:]
            if select.select([leader], [], [], 0.2)[0]:
                seen += os.read(leader, 65_536).decode("utf-8", "replace")

    try:
        until("RUNNING")
        publish(mosquitto, ("verdict", verdict(1)), ("verdict", verdict(2, label="Missing")))
        until("Missing")
        os.write(leader, b" ")
        until("paused, 0 more arrived")
        publish(mosquitto, ("verdict", verdict(3)))
        until("paused, 1 more arrived")
        os.write(leader, b"\x1b[A\r")
        until("drift.witnesses")
        os.write(leader, b"\x1b")
        until("space pause")
        os.write(leader, b"n")
        until("not passed")
        os.write(leader, b"q")
        assert watch.wait(10) == 0
        assert termios.tcgetattr(follower) == before
    finally:
        watch.kill()
        watch.wait()
        os.close(leader)
        os.close(follower)
