"""Nothing lost and nothing wrongly GOOD, whatever is killed; and a harness that would see it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_qc.bundle.verification import open_bundle
from edge_qc.engine import open_engine
from tests.faults.campaign import Campaign, cameras
from tests.faults.load import CODES, PROTOTYPES, picture
from tests.faults.mutants import MUTANTS, Mutant, seeded
from tests.faults.processes import ROOT
from tests.faults.rounds import first_breach
from tests.faults.world import BATCH, open_world, wait
from tests.rig.programs import needs
from tests.rig.tiny_bundle import CLASSES, make_bundle

pytestmark = [
    pytest.mark.broker,
    needs("mosquitto"),
]


def test_the_truth_is_known(tmp_path: Path) -> None:
    """The network itself, past the station's decision, says each prototype's label, whatever the
    noise and the code in the first pixel."""
    engine = open_engine(open_bundle(make_bundle(tmp_path / "bundle", batch=BATCH)))
    noise = np.random.default_rng(0)
    for prototype, (label, _) in enumerate(PROTOTYPES):
        for code in (0, *CODES.values()):
            frames = np.stack([picture(prototype, code, noise)[np.newaxis] for _ in range(BATCH)])
            for reading in engine.infer(frames):
                ordered = np.sort(reading.logits)
                assert CLASSES[int(reading.logits.argmax())] == label
                assert ordered[-1] - ordered[-2] > 0.5


@pytest.mark.faults
@pytest.mark.parametrize("recorder", [True, False], ids=["with-recorder", "without-recorder"])
def test_nothing_is_lost_and_nothing_wrongly_good(quick_folder: Path, recorder: bool) -> None:
    """A campaign of 50 kills and 10 000 verdicts, and every fail point; two make CI's share."""
    campaign = Campaign(1 + recorder, recorder=recorder)
    with open_world(
        quick_folder, cameras=cameras(), environment=campaign.environment, recorder=recorder
    ) as world:
        campaign.run(world, kills=50, verdicts=10_000, timeout_s=900)
        world.settle()
        tally = campaign.tally
        sys.stderr.write(f"{world.heard} verdicts, {world.book.repetitions} repeated; {tally}\n")
        assert world.breaches() == []
        assert sum(tally.kills.values()) >= 50
        assert world.heard >= 10_000
        assert set(tally.points) == campaign.points
        assert "Traceback" not in (quick_folder / "station.log").read_text(errors="replace")
        assert sum(v.label == "GOOD" for v in world.book.verdicts.values()) > world.heard / 4


@pytest.mark.faults
def test_the_station_as_it_is_passes_the_rounds(quick_folder: Path) -> None:
    assert first_breach(quick_folder / "world", rounds=2) == ""


@pytest.mark.faults
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_seeded_mistake_is_caught(quick_folder: Path, mutant: Mutant) -> None:
    breach = first_breach(quick_folder / "world", source=seeded(mutant, quick_folder))
    sys.stderr.write(f"{mutant.name}: {breach}\n")
    assert breach, "the referee saw nothing"


@pytest.mark.faults
def test_a_plain_publisher_loses_and_is_caught(quick_folder: Path) -> None:
    """The control: paho at QoS 1 without an outbox, killed and disconnected as a station is."""
    with open_world(quick_folder) as world:
        command = [sys.executable, "-m", "tests.faults.control", str(world.journal_file)]
        command += map(str, world.proxy.address)
        for _ in range(3):
            publisher = subprocess.Popen(command, cwd=ROOT)
            try:
                assert world.await_verdicts(100)
                world.proxy.cut(away=True)
                time.sleep(0.2)
            finally:
                publisher.kill()
                publisher.wait()
            world.proxy.heal()
        wait(lambda: len(world.journal().durable) == world.heard, 1.0)
        found = world.breaches()
        sys.stderr.write(f"control: {found}\n")
        assert any("without a verdict" in breach for breach in found)
