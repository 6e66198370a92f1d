"""Station drift told from part drift: figures of pictures, control charts, references, events."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_qc.camera.picture import measure, place_in
from edge_qc.monitoring import ProcessMonitor
from edge_qc.monitoring.control_chart import Baseline, Chart
from edge_qc.parts import Disposition, DriftFinding, Frame, Reason, Verdict

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]

DRAW = np.random.default_rng(7)
SIZE = (150, 200)


def drawn(size: tuple[int, int] = SIZE) -> NDArray[np.float32]:
    """A die: pads, wires and a texture, the same on each part."""
    rng = np.random.default_rng(1)
    picture = np.full(size, 90, np.float32)
    for _ in range(40):
        x, y = rng.integers(0, size[1]), rng.integers(0, size[0])
        w, h = rng.integers(4, 30, 2)
        picture[y : y + h, x : x + w] += rng.integers(-50, 60)
    texture = cv2.GaussianBlur(rng.normal(size=size).astype(np.float32), (0, 0), 1.2) * 40
    return cv2.GaussianBlur(picture, (0, 0), 1.0) + texture


PART = drawn()
NOISE = [DRAW.normal(0, 2.0, SIZE).astype(np.float32) for _ in range(16)]


def moved(right: float, down: float) -> Change:
    affine = np.array([[1, 0, right], [0, 1, down]], np.float32)

    def change(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        out = cv2.warpAffine(picture, affine, SIZE[::-1], borderMode=cv2.BORDER_REFLECT)
        return out.astype(np.float32, copy=False)

    return change


def photograph(change: Change = lambda picture: picture) -> NDArray[np.uint8]:
    """One part: it lies a little elsewhere, the lamp flickers, the sensor is noisy."""
    picture = moved(*DRAW.normal(0, 0.6, 2))(PART) * np.float32(DRAW.normal(1.0, 0.01))
    picture = change(picture) + NOISE[DRAW.integers(len(NOISE))]
    pixels: NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return pixels


def frame(pixels: NDArray[np.uint8], camera: str = "north", die: str = "Die01") -> Frame:
    now = datetime.now(timezone.utc)
    return Frame(pixels, camera, die, uuid.uuid4().hex, None, 0, now, 0.0)


def verdict(label: str = "GOOD", drift: float = 1.0, bundle: str = "b1") -> Verdict:
    return Verdict(
        label=label,
        disposition=Disposition.PASS if label == "GOOD" else Disposition.REJECT,
        reason=Reason.DECIDED,
        bundle_id=bundle,
        probabilities={"GOOD": 1.0},
        drift=DriftFinding(drift, 0.5, 5.0, "padim", {"padim": 0.5}),
    )


@pytest.fixture(autouse=True)
def _draws_of_its_own() -> None:
    """Each test draws the same, in whatever order they run."""
    DRAW.bit_generator.state = np.random.default_rng(7).bit_generator.state


class Bench:
    """A camera's pictures, and what is told of them."""

    def __init__(self, folder: Path, **options: float) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.troubles: dict[str, str] = {}
        self.monitor = ProcessMonitor(
            folder,
            frozenset({"north"}),
            lambda *said: self.told.append(said),
            self.troubles,
            every_s=0.0,
            learnt=100,
        )

    def show(
        self,
        count: int,
        change: Change = lambda picture: picture,
        label: str = "GOOD",
        drift: float = 0.0,
        bundle: str = "b1",
    ) -> None:
        for _ in range(count):
            said = verdict(label, float(DRAW.exponential()) + drift, bundle)
            self.monitor.look(frame(photograph(change)), said)

    @property
    def events(self) -> list[str]:
        return [event for _, event, _ in self.told]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    learning = Bench(folder)
    learning.show(100)
    assert learning.monitor.shown("north")
    (file,) = folder.glob("*.npz")
    return file


@pytest.fixture
def bench(tmp_path: Path, reference: Path) -> Bench:
    """One that has learnt."""
    shutil.copy(reference, tmp_path)
    return Bench(tmp_path)


def darker(share: float) -> Change:
    return lambda picture: picture * np.float32(share)


def blurred(sigma: float) -> Change:
    return lambda picture: cv2.GaussianBlur(picture, (0, 0), sigma).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "event", "word"),
    [
        (moved(8, 0), "camera-moved", "to the right and"),
        (moved(0, -6), "camera-moved", "to the right and"),
        (moved(70, 30), "camera-moved", "no longer resembles"),
        (darker(0.8), "lamp-ageing", "of the reference brightness"),
        (darker(1.25), "picture-brighter", "of the reference brightness"),
        (blurred(1.5), "focus-lost", "of the reference sharpness"),
    ],
)
def test_what_changes_at_the_station_is_named(
    bench: Bench, change: Change, event: str, word: str
) -> None:
    """Each cause is one event, once, of that camera; the station says it until it is over. Parts
    need not be good for it."""
    bench.show(120, change, label="flat")
    assert bench.events == [event]
    camera, _, _ = bench.told[0]
    assert camera == "north"
    (trouble,) = bench.troubles.values()
    assert event.replace("-", " ") in trouble
    bench.show(120)
    assert bench.events == [event, f"{event}-over"]
    assert not bench.troubles
    assert word in bench.told[0][2]


def test_a_slowly_ageing_lamp(bench: Bench) -> None:
    """A thousandth a part: told when it matters, though no two parts differ."""
    level = 1.0
    while not bench.told and level > 0.5:
        level *= 0.999
        bench.show(1, darker(level))
    assert bench.events == ["lamp-ageing"]
    assert 0.85 < level < 0.93
    assert bench.monitor.shown("north")["brightness"] == pytest.approx(level, abs=0.05)


def test_no_false_alarm(bench: Bench) -> None:
    """Parts that lie a little elsewhere, noise, a flickering lamp, defects among them."""
    for number in range(300):
        bench.show(1, label="flat" if number % 10 == 0 else "GOOD")
    assert bench.told == []


def test_good_parts_that_creep(bench: Bench) -> None:
    """The drift score of GOOD alone: odd parts are the decision's affair."""
    bench.show(60, label="DRIFT", drift=20.0)
    assert bench.events == []
    bench.show(120, drift=2.0)
    assert bench.events == ["good-parts-creep"]


def test_parts_that_lie_anyhow_only_widen_the_limits(tmp_path: Path) -> None:
    """Where the view itself scatters, registration says nothing rather than something wrong."""
    bench = Bench(tmp_path)

    def anywhere(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.roll(picture, DRAW.integers(0, 150, 2), (0, 1))

    bench.show(200, anywhere)
    assert bench.told == []


def test_the_figures_in_the_health(bench: Bench) -> None:
    """Against the reference, with their signs."""
    bench.show(120, lambda picture: moved(8, -6)(darker(0.7)(picture)))
    shown = bench.monitor.shown("north")
    assert shown["right_percent"] == pytest.approx(4.0, abs=0.3)
    assert shown["down_percent"] == pytest.approx(-4.0, abs=0.3)
    assert shown["brightness"] == pytest.approx(0.7, abs=0.03)


def test_the_reference_outlives_a_restart(bench: Bench, tmp_path: Path) -> None:
    """Kept in the state folder; the next start compares at once, and does not learn the new
    position as the right one."""
    again = Bench(tmp_path)
    again.show(60, moved(8, 0))
    assert again.events == ["camera-moved"]


def test_learnt_anew_by_command_and_with_another_bundle(bench: Bench, tmp_path: Path) -> None:
    bench.show(40, moved(8, 0))
    assert bench.monitor.forget("south") == []
    assert bench.monitor.forget() == ["north"]
    bench.show(120, moved(8, 0))
    assert bench.events == ["camera-moved", "camera-moved-over"]
    bench.show(120, bundle="b2")
    assert bench.events == ["camera-moved", "camera-moved-over"]
    assert not bench.troubles


@pytest.mark.parametrize("rot", [b"", b"PK\x03\x04 nothing", b"\x00" * 1000])
def test_a_rotten_reference_is_learnt_again(bench: Bench, tmp_path: Path, rot: bytes) -> None:
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(rot)
    again = Bench(tmp_path)
    again.show(120)
    assert again.monitor.shown("north")
    assert again.told == []


def test_only_good_frames_teach(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.show(120, label="flat")
    assert bench.monitor.shown("north") == {}


def test_what_is_not_judged_is_not_measured(bench: Bench) -> None:
    bench.show(1)
    before = bench.monitor.shown("north")
    doubt = Verdict("NOT_JUDGED", Disposition.REVIEW, Reason.ENGINE, "b1")
    bench.monitor.look(frame(photograph(darker(0.5))), doubt)
    bench.monitor.look(frame(photograph(darker(0.5)), camera="south"), verdict())
    assert bench.monitor.shown("north") == before


@pytest.mark.parametrize("size", [(8, 8), (48, 64), (1200, 1600), (600, 500, 3)])
def test_pictures_of_every_size(size: tuple[int, ...]) -> None:
    pixels = DRAW.integers(0, 255, size, dtype=np.uint8)
    picture = measure(pixels)
    assert picture.small.shape == (128, 128)
    assert 0 < picture.brightness < 255
    place = place_in(picture.small, picture.small)
    assert (place.right, place.down, place.likeness) == pytest.approx((0, 0, 1), abs=0.05)


def test_a_picture_of_one_grey_is_no_error() -> None:
    picture = measure(np.full((100, 100), 7, np.uint8))
    assert picture.sharpness == 0
    place = place_in(picture.small, picture.small)
    assert np.isfinite([place.right, place.down, place.likeness]).all()


def test_a_chart_forgives_half_way_back() -> None:
    """No event and end of it with every frame at the limit."""
    chart = Chart(Baseline(0.0, 0.0, 100), least=1.0)
    for _ in range(200):
        chart.add(1.2)
    assert chart.out
    for _ in range(200):
        chart.add(0.7)
    assert chart.out
    for _ in range(200):
        chart.add(0.2)
    assert not chart.out
