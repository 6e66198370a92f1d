"""Every command of the README runs as it stands there."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.rig.trained import ROOT, Trained, readme_commands, shell

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_make_target_exists() -> None:
    """What the README, CONTRIBUTING and docs/ tell to make, the Makefile knows."""
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in texts:
        told = set(re.findall(r"\bmake ([a-z-]+)", " ".join(_code(text))))
        assert told <= targets, text


def test_every_link_leads_somewhere() -> None:
    """Links between pages name files that exist."""
    for text in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text.read_text(encoding="utf-8")):
            assert (text.parent / target).exists(), f"{text.name} links to {target}"


@pytest.mark.torch
def test_the_commands_from_images_to_verdicts(trained: Trained) -> None:
    """synth, train and export ran for the fixture; the others run here, in the same folder."""
    commands = readme_commands()[0]
    assert commands[:2] == ["make venv", ". .venv/bin/activate"]
    ran = 0
    for command in commands[2:]:
        if command.split()[1] in ("synth", "train", "export"):
            continue
        done = shell(command, trained.folder)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert "Traceback" not in done.stderr, command
        ran += 1
    assert ran >= 5


@pytest.mark.torch
@pytest.mark.broker
def test_the_commands_of_the_station(
    trained: Trained, any_broker: tuple[str, int], tmp_path: Path
) -> None:
    """check, run and watch as the README has them, with a station.toml filled in."""
    copy, check, run, watch = readme_commands()[1]
    copied, target = copy.split()[1:3]
    assert (ROOT / copied).exists()
    (tmp_path / target).write_text(
        '[station]\nsite = "s"\nname = "n"\nstate_dir = "state"\n'
        f'[bundle]\npath = "{trained.bundle}"\n'
        f'[mqtt]\nhost = "{any_broker[0]}"\nport = {any_broker[1]}\n'
        f'[[camera]]\nname = "c"\nsource = "file://{trained.data}/input_test"\n'
        f'table = "{trained.data}/win_and_lib.csv"\nloop = true\nfps = 10\n'
    )
    assert shell(check, tmp_path).returncode == 0
    python = Path(sys.executable)
    daemon = subprocess.Popen([python.with_name("edge-qc"), *run.split()[1:]], cwd=tmp_path)
    try:
        watcher = subprocess.Popen(
            # As a terminal starts it: what runs in the background has Ctrl-C ignored.
            ["env", "--default-signal=INT", python.with_name("edge-qc"), *watch.split()[1:]],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watcher.stdout is not None
        # Ends by itself when the watcher does, so that a daemon that says nothing cannot hang it.
        stop = threading.Timer(60, watcher.terminate)
        stop.start()
        verdict = next((line for line in watcher.stdout if "bond_" in line), "")
        watcher.send_signal(signal.SIGINT)
        watcher.wait(timeout=10)
        stop.cancel()
    finally:
        daemon.terminate()
    assert daemon.wait(timeout=20) == 0
    assert "bond_" in verdict


def _code(text: Path) -> list[str]:
    """Inline code and code blocks of a page."""
    page = text.read_text(encoding="utf-8")
    return re.findall(r"```.*?```|`[^`]+`|^    [^\n]+$", page, flags=re.DOTALL | re.MULTILINE)
