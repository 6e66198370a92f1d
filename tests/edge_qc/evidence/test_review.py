"""Kept images labelled by a person in a browser, and turned into a data set to train on."""

from __future__ import annotations

import csv
import http.client
import json
import os
import re
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge_qc.cli import app
from edge_qc.errors import DataError, UsageError
from edge_qc.evidence import UNUSABLE, Label, Labels, Store
from edge_qc.evidence.dataset import export_dataset
from edge_qc.evidence.page import Desk
from edge_qc.evidence.pictures import heat_picture
from edge_qc.evidence.serving import LocalServer
from tests.rig.browsers import show_as, texts
from tests.rig.cameras import picture
from tests.rig.privileges import open_folder, without_root
from tests.rig.publishing import wait_until
from tests.rig.trained import EDGE_QC

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOSTILE = "<img src=x onerror=document.title='owned'>"
DISTANCES = np.arange(16, dtype=np.float32).reshape(4, 4)


def kept(
    store: Store,
    said: str = "GOOD",
    doubt: float = 0.2,
    frame: Any = None,
    view: Any = None,
    distances: Any = DISTANCES,
    **fields: Any,
) -> str:
    verdict_id = str(uuid.uuid4())
    verdict = {
        "verdict_id": verdict_id,
        "camera": "north",
        "die": "Die01",
        "part_id": "part-1",
        "label": said,
        "disposition": "REJECT",
        "reason": "decided",
        "probabilities": {"GOOD": 0.3, "Missing": 0.6, "DRIFT": 0.1},
        "drift": {"p_value": 0.04},
        **fields,
    }
    store.add(
        verdict_id,
        said,
        NOW + timedelta(seconds=doubt),
        doubt,
        frame=picture(1) if frame is None else frame,
        verdict=verdict,
        view=picture(2, 48, 48) if view is None else view,
        distances=distances,
    )
    return verdict_id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "evidence")


@contextmanager
def review(store: Store, *labels: str) -> Iterator[LocalServer]:
    with LocalServer(Desk(store, "anna", labels)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(
    server: LocalServer,
    path: str,
    document: object = None,
    *,
    secret: str | None = None,
    **headers: str,
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    body = None if document is None else json.dumps(document)
    whole = f"/{server.secret if secret is None else secret}/{path}"
    connection.request("GET" if body is None else "POST", whole, body, headers)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def classes(desk: Desk) -> dict[str, str]:
    """The classes that a desk offers, each with its key, in order."""
    return {entry["label"]: entry["key"] for entry in desk.listing()["labels"]}


# Labels


def test_labels_are_appended_with_who_and_when_and_the_last_counts(tmp_path: Path) -> None:
    labels = Labels(tmp_path)
    labels.add("v1", "Missing", "GOOD", "anna")
    labels.add("v1", "GOOD", "GOOD", "bert")
    with labels.file.open("a") as torn:
        torn.write('{"verdict_id": "v2", "la')
    labels.add("v3", "GOOD", "GOOD", "anna")
    assert [label.label for label in labels.history()] == ["Missing", "GOOD", "GOOD"]
    latest = labels.latest()
    assert (latest["v1"].label, latest["v1"].who, latest["v1"].said) == ("GOOD", "bert", "GOOD")
    assert set(latest) == {"v1", "v3"}
    assert datetime.fromisoformat(latest["v3"].time).utcoffset() == timedelta(0)


def test_a_line_without_a_time_is_no_label_and_hides_no_other(tmp_path: Path) -> None:
    labels = Labels(tmp_path)
    labels.add("a", "Missing", "GOOD", "anna")
    line = json.loads(labels.file.read_text())
    with labels.file.open("a") as stream:
        for number, time in enumerate(("yesterday", None, "2026-03-01T12:00:00Z")):
            stream.write(json.dumps({**line, "verdict_id": f"b{number}", "time": time}) + "\n")
        stream.write(json.dumps({**line, "time": "9999-12-31T23:59:59-05:00"}) + "\n")
        stream.write(json.dumps({**line, "verdict_id": ["c"]}) + "\n")
    assert set(labels.latest()) == {"a", "b2"}
    assert labels.latest()["b2"].time == "2026-03-01T12:00:00.000+00:00"


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\r\n"])
def test_a_note_of_several_lines_loses_no_label(tmp_path: Path, separator: str) -> None:
    note = separator.join(("scratch", "bench 3"))
    Labels(tmp_path).add("a", "Missing", "GOOD", "anna", note)
    assert Labels(tmp_path).latest()["a"].note == note


def test_the_last_label_counts_though_the_clock_was_set_back(tmp_path: Path) -> None:
    """Also for another program that writes the same file."""
    labels, other = Labels(tmp_path), Labels(tmp_path)
    labels.add("b", "GOOD", "GOOD", "anna")
    other.append(Label("a", "Missing", "GOOD", "anna", "2099-03-01T12:00:00.000+00:00"))
    for who, label in (("bert", "GOOD"), ("anna", "Missing"), ("bert", "GOOD")):
        labels.add("a", label, "GOOD", who)
    assert Labels(tmp_path).latest()["a"].who == "bert"
    times = [one.time for one in labels.history() if one.verdict_id == "a"]
    assert times == sorted(set(times))
    other.withdraw("a", "carl")
    assert set(labels.latest()) == {"b"}
    # A label of before that came late counts in the records by its time, and so here.
    other.append(Label("a", "Missing", "GOOD", "anna", "2026-03-01T12:00:00.000+00:00"))
    assert set(labels.latest()) == {"b"}


def test_two_spellings_of_one_label_are_one(store: Store) -> None:
    """A Mac types a letter and its accent, Windows one character for both (NFD, NFC)."""
    kept(store)
    exhibit = next(iter(store.exhibits()))
    Labels(store.folder).add(exhibit.verdict_id, "Re\u0301parable", "GOOD", "anna")
    assert Labels(store.folder).latest()[exhibit.verdict_id].label == "R\u00e9parable"
    offered = classes(Desk(store, "anna", ["Re\u0301parable"]))
    assert [label for label in offered if label.endswith("parable")] == ["R\u00e9parable"]


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "x" * 65])
def test_a_label_that_is_none_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(DataError, match="printable"):
        Labels(tmp_path).add("v1", label, "GOOD", "anna")


# The page's server


def test_the_most_doubtful_comes_first_and_what_is_labelled_last(store: Store) -> None:
    sure, doubtful, labelled = (kept(store, doubt=doubt) for doubt in (0.1, 0.8, 0.9))
    desk = Desk(store, "anna", ["Scratch"])
    desk.label({"ids": [labelled], "label": "Missing"})
    listing = desk.listing()
    assert [row["id"] for row in listing["exhibits"]] == [doubtful, sure, labelled]
    assert listing["exhibits"][2]["label"] == "Missing"
    assert list(classes(desk)) == ["GOOD", "DRIFT", UNUSABLE, "Missing", "Scratch"]


def test_a_class_keeps_its_key_whatever_is_added(store: Store) -> None:
    """In this session, in the next one, and after a bundle with more classes."""
    first = kept(store)
    before = classes(Desk(store, "anna"))
    assert before == {"GOOD": "g", "DRIFT": "d", UNUSABLE: "u", "Missing": "m"}
    desk = Desk(store, "anna")
    for number in range(40):
        desk.label({"ids": [first], "label": f"Alpha {number}"})
    kept(store, "Boucle", probabilities={"Aa": 0.5, "Boucle": 0.5})
    after = classes(Desk(store, "bert"))
    assert dict(list(after.items())[:4]) == before
    assert list(after)[4] == "Alpha 0"
    keys = [key for key in after.values() if key]
    assert len(keys) == len(set(keys))
    assert not {"j", "k", "z"} & set(keys)


def test_two_people_who_label_at_once_share_the_keys(store: Store) -> None:
    first = kept(store)
    anna, bert = Desk(store, "anna"), Desk(store, "bert")
    anna.label({"ids": [first], "label": "Scratch"})
    bert.label({"ids": [first], "label": "Scorch"})
    both = classes(Desk(store, "carl"))
    assert (both["Scratch"], both["Scorch"]) == ("s", "c")
    with pytest.raises(DataError, match="nearly 'Scorch'"):
        anna.label({"ids": [first], "label": "scorch"})
    assert classes(anna) == classes(bert) == both


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("good", "nearly 'GOOD', which exists: choose that \\(key g\\)"),
        ("missing ", "nearly 'Missing'"),
        ("Mis-sing", "nearly 'Missing'"),
        ("drift", "nearly 'DRIFT'"),
        ("Not judged", "no class of a part"),
    ],
)
def test_a_second_spelling_of_a_class_is_refused(store: Store, name: str, said: str) -> None:
    verdict_id = kept(store)
    desk = Desk(store, "anna")
    with pytest.raises(DataError, match=said):
        desk.label({"ids": [verdict_id], "label": name})
    with pytest.raises(DataError, match=said):
        Desk(store, "anna", [name])
    assert Labels(store.folder).latest() == {}


def test_a_label_is_taken_back_to_what_it_was(store: Store) -> None:
    verdict_id = kept(store)
    desk = Desk(store, "anna")
    desk.label({"ids": [verdict_id], "label": "Missing"})
    desk.label({"ids": [verdict_id], "label": "GOOD"})
    (row,) = desk.undo({"before": [{"id": verdict_id, "label": "Missing"}]})["rows"]
    assert row["label"] == "Missing"
    (row,) = desk.undo({"before": [{"id": verdict_id, "label": None}]})["rows"]
    assert row["label"] is None
    assert Labels(store.folder).latest() == {}
    given = [label.label for label in Labels(store.folder).history()]
    assert given == ["Missing", "GOOD", "", "Missing", ""]


def test_one_request_labels_a_group_with_who_and_why_or_nothing_at_all(store: Store) -> None:
    ids = [kept(store) for _ in range(3)]
    desk = Desk(store, "anna")
    with pytest.raises(DataError, match="no longer kept"):
        desk.label({"ids": [*ids, str(uuid.uuid4())], "label": "Missing"})
    assert Labels(store.folder).latest() == {}
    desk.label({"ids": ids[:2], "label": "Missing", "why": "no wire at all"})
    desk.label({"ids": ids, "label": "GOOD", "who": "bert"})
    before = [{"id": one, "label": "Missing", "why": "no wire at all"} for one in ids[:2]]
    desk.undo({"before": [*before, {"id": ids[2], "label": None}]})
    latest = Labels(store.folder).latest()
    assert {one: (latest[one].label, latest[one].note) for one in latest} == dict.fromkeys(
        ids[:2], ("Missing", "no wire at all")
    )
    shown = {row["id"]: (row["label"], row["why"]) for row in desk.listing()["exhibits"]}
    assert shown == {
        ids[0]: ("Missing", "no wire at all"), ids[1]: ("Missing", "no wire at all"),
        ids[2]: (None, ""),
    }  # fmt: skip


# Those that look alike


def scratched(store: Store, row: int, light: int = 0, **fields: Any) -> str:
    """A view with a bright scratch in this row, and the distances of it; all of one die but for
    noise and light."""
    draw = np.random.default_rng(len(list(store.exhibits())))
    view = picture(2, 48, 48).astype(int) // 2 + draw.normal(0, 4, (48, 48)).astype(int) + light
    view[row : row + 6] += 90
    distances = np.ones((4, 4), np.float32)
    distances[row * 4 // 48] = 9
    frame = np.clip(view, 0, 255).astype(np.uint8)
    return kept(store, frame=frame, view=frame, distances=distances, **fields)


def test_images_that_look_alike_are_one_group_whatever_their_light(store: Store) -> None:
    upper = {scratched(store, 6, light) for light in (0, 40, 80)}
    lower = {scratched(store, 36, light) for light in (0, 40)}
    other_die = scratched(store, 6, die="Die02")
    desk = Desk(store, "anna")
    assert [set(group) for group in desk.groups()["groups"]] == [upper, lower]
    done = upper.pop()
    desk.label({"ids": [done], "label": "Scratch"})
    assert [set(group) for group in desk.groups()["groups"]] in ([upper, lower], [lower, upper])
    one = store.find(upper.pop())
    assert one is not None
    assert [near["id"] for near in desk.neighbours(one)["neighbours"]] == [done]
    desk.label({"ids": [*lower], "label": "Crack"})
    first, *rest = desk.neighbours(one)["neighbours"]
    assert (first["id"], first["label"]) == (done, "Scratch")
    assert {near["id"] for near in rest} == lower
    assert first["likeness"] > 0.8 > rest[0]["likeness"] + 0.2
    alone = store.find(other_die)
    assert alone is not None
    assert desk.neighbours(alone)["neighbours"] == []


def test_an_image_without_a_view_or_with_a_damaged_one_is_in_no_group(store: Store) -> None:
    alike = {scratched(store, 6) for _ in range(2)}
    damaged = store.find(scratched(store, 6))
    assert damaged is not None
    (damaged.folder / "view.png").write_bytes(b"no picture")
    (damaged.folder / "distances.npy").write_bytes(b"no array")
    assert [set(group) for group in Desk(store, "anna").groups()["groups"]] == [alike]


def test_files_that_a_power_cut_left_empty_cost_their_own_image_alone(store: Store) -> None:
    """Evidence is not synced: names may be there without what they name."""
    alike = [scratched(store, 20) for _ in range(2)]
    for names in (("view.png", "frame.png"), ("verdict.json",), ("distances.npy",)):
        exhibit = store.find(kept(store, "Boucle plate"))
        assert exhibit is not None
        for name in names:
            (exhibit.folder / name).write_bytes(b"")
    with review(store) as server:
        assert ask(server, "exhibits")[0] == 200
        assert [sorted(one) for one in json.loads(ask(server, "groups")[1])["groups"]] == [
            sorted(alike)
        ]
        assert "Missing" in classes(Desk(store, "anna"))


def test_pictures_and_verdict_are_served(store: Store) -> None:
    verdict_id = kept(store)
    with review(store) as server:
        for name, shape in (
            ("frame.png", (48, 64)),
            ("view.png", (48, 48)),
            ("heat.png", (48, 48, 3)),
        ):
            status, data = ask(server, f"{verdict_id}/{name}")
            assert status == 200
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            assert image.shape == shape
        status, data = ask(server, f"{verdict_id}/verdict")
        assert json.loads(data)["verdict_id"] == verdict_id


def test_heat_is_brightest_where_the_distance_is_largest() -> None:
    view = np.full((48, 48), 60, np.uint8)
    heat = heat_picture(view, DISTANCES).sum(axis=2)
    assert heat[-6:, -6:].mean() > 1.5 * heat[:6, :6].mean()
    flat = heat_picture(view, np.ones((4, 4), np.float32))
    assert (flat == 60).all()


def test_nobody_without_the_address_reads_or_labels_anything(store: Store) -> None:
    """Another page in the same browser (it does not know the secret), a name that was made to
    point at this machine, a path out of the folder."""
    verdict_id = kept(store)
    wrong = {"ids": [verdict_id], "label": "GOOD"}
    with review(store) as server:
        assert ask(server, "exhibits", secret="x")[0] == 404
        assert ask(server, "label", wrong, secret="x")[0] == 404
        assert ask(server, "exhibits", Host="evil.example")[0] == 404
        assert ask(server, "label", wrong, Host="evil.example:80")[0] == 404
        for path in (
            "../labels.jsonl",
            "%2e%2e%2flabels.jsonl",
            f"{verdict_id}/../../x",
            "*/frame.png",
        ):
            assert ask(server, path)[0] == 404
        assert ask(server, "label", {"ids": ["../x"], "label": "GOOD"})[0] == 400
        assert ask(server, "label", ["GOOD"])[0] == 400
        assert ask(server, "label", {**wrong, "ids": verdict_id})[0] == 400
        assert ask(server, "label", {**wrong, "label": "x" * 70_000})[0] == 400
        assert ask(server, "undo", {"before": [verdict_id]})[0] == 400
        assert ask(server, f"{verdict_id}/frame.png")[0] == 200
    assert Labels(store.folder).latest() == {}


# As a data set


def test_only_what_is_labelled_is_exported_and_drift_goes_to_the_test_part(
    store: Store, tmp_path: Path
) -> None:
    labels = Labels(store.folder)
    given = {"GOOD": kept(store), "Missing": kept(store, "GOOD", die="Die02", part_id=None)}
    given |= {"DRIFT": kept(store), UNUSABLE: kept(store)}
    kept(store)
    for label, verdict_id in given.items():
        labels.add(verdict_id, label, "GOOD", "anna")
    labels.add(str(uuid.uuid4()), "GOOD", "GOOD", "anna")
    report = export_dataset(store, tmp_path / "set")
    assert dict(report.counts) == {"GOOD": 1, "Missing": 1, "DRIFT": 1}
    assert report.gone == 1
    with (tmp_path / "set" / "Y_train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["filename"], row["lib"], row["Label"]) for row in rows] == [
        (f"{given['GOOD']}.png", "Die01", "GOOD"),
        (f"{given['Missing']}.png", "Die02", "Missing"),
    ]
    assert {row["session"] for row in rows} == {NOW.date().isoformat()}
    image = cv2.imread(str(tmp_path / "set" / "input_train" / rows[0]["filename"]), -1)
    assert np.array_equal(image, picture(1))
    for part, names in (("input_train", ("GOOD", "Missing")), ("input_test", ("DRIFT",))):
        there = {file.stem for file in (tmp_path / "set" / part).iterdir()}
        assert there == {given[name] for name in names}
    truth = (tmp_path / "set" / "Y_test_truth.csv").read_text().split()
    assert truth == ["filename,Label", f"{given['DRIFT']}.png,Drift"]
    groups = (tmp_path / "set" / "groups.csv").read_text().split()
    assert groups == ["filename,group", f"{given['GOOD']}.png,part-1"]
    with pytest.raises(UsageError, match="already exists"):
        export_dataset(store, tmp_path / "set")


def test_a_colour_cameras_frame_is_exported_in_the_grey_that_was_judged(
    store: Store, tmp_path: Path
) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    labels = Labels(store.folder)
    for label in ("GOOD", "Missing"):
        labels.add(kept(store, frame=colour), label, "GOOD", "anna")
    export_dataset(store, tmp_path / "set")
    for file in (tmp_path / "set" / "input_train").iterdir():
        image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert np.array_equal(image, cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY))


def test_a_damaged_image_is_left_out_of_the_export_and_named(store: Store, tmp_path: Path) -> None:
    whole, cut = kept(store), kept(store, "Missing")
    for verdict_id in (whole, cut):
        Labels(store.folder).add(verdict_id, "Missing", "GOOD", "anna")
    exhibit = store.find(cut)
    assert exhibit is not None
    (exhibit.folder / "frame.png").write_bytes(b"")
    done = edge_qc("evidence", "export", tmp_path / "data", "--folder", store.folder)
    assert (done.returncode, cut in done.stderr) == (0, True)
    assert [file.stem for file in (tmp_path / "data" / "input_train").iterdir()] == [whole]
    exhibit = store.find(whole)
    assert exhibit is not None
    (exhibit.folder / "verdict.json").write_bytes(b"")
    with pytest.raises(DataError, match="all 2 labelled images are damaged"):
        export_dataset(store, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.fixture
def shared() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.mark.parametrize(
    ("closed", "words", "wanted"),
    [
        ("kept", "evidence status --folder kept/evidence", "evidence: this user may not read it"),
        ("kept/evidence/GOOD", "evidence status --folder kept/evidence", "Let this user read it"),
        ("", "evidence status --folder /long", "no such folder"),
        ("", "evidence export closed/new --folder kept/evidence", "cannot be made: Permission"),
        (
            "closed",
            "evidence export closed/new --folder kept/evidence",
            "cannot be made: Permission",
        ),
    ],
)
def test_a_folder_that_this_user_may_not_use_is_told_in_words(
    shared: Path, closed: str, words: str, wanted: str
) -> None:
    store = Store(shared / "kept" / "evidence")
    store.folder.mkdir(parents=True)
    Labels(store.folder).add(kept(store), "Missing", "GOOD", "anna")
    (shared / "closed").mkdir(mode=0o555)
    if closed:
        (shared / closed).chmod(0o000)
    path = re.sub(r"(kept|closed)/", rf"{shared}/\1/", words).replace("/long", f"/{'x' * 300}")

    def said() -> str:
        # The rig asks as root first, who may make one.
        told = CliRunner().invoke(app, path.replace("new", f"new-{os.geteuid()}").split())
        return f"{type(told.exception).__name__}: {told.exception}"

    found = without_root(said)
    (shared / (closed or "closed")).chmod(0o755)
    assert wanted in found
    assert found.split(":")[0] in ("UsageError", "DataError")


def test_a_folder_whose_name_is_not_utf8_takes_the_export(store: Store, tmp_path: Path) -> None:
    """OpenCV crashes at such a name."""
    Labels(store.folder).add(kept(store), "GOOD", "GOOD", "anna")
    folder = os.fsdecode(bytes(tmp_path) + b"/set \xfc")
    done = edge_qc("evidence", "export", folder, "--folder", store.folder)
    assert done.returncode == 0, done.stderr
    assert len(list((Path(folder) / "input_train").iterdir())) == 1


def test_without_a_label_there_is_nothing_to_export(store: Store, tmp_path: Path) -> None:
    kept(store)
    with pytest.raises(DataError, match="none of the 1 images has a label"):
        export_dataset(store, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def edge_qc(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGE_QC, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.torch
def test_a_network_trains_on_what_was_labelled(store: Store, tmp_path: Path) -> None:
    """Photographs as a station keeps them, to a run, by the commands alone."""
    data = tmp_path / "data"
    assert edge_qc("synth", data, "--train", "40", "--test", "4").returncode == 0
    labels = Labels(store.folder)
    with (data / "Y_train.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            frame = cv2.imread(str(data / "input_train" / row["filename"]), cv2.IMREAD_UNCHANGED)
            verdict_id = kept(store, frame=frame, die=row["lib"], part_id=None)
            labels.add(verdict_id, row["Label"], "GOOD", "anna")
    status = edge_qc("evidence", "status", "--folder", store.folder, "--json")
    assert sum(json.loads(status.stdout)["labelled"].values()) == 40
    exported = edge_qc("evidence", "export", tmp_path / "set", "--folder", store.folder)
    assert exported.returncode == 0, exported.stderr
    how = ("--network", "cnn-basic", "--size", "32", "--epochs", "1", "--out", tmp_path / "run")
    trained = edge_qc("train", tmp_path / "set", *how)
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["epochs"] == 1


# In a browser


def test_a_person_labels_by_keyboard(store: Store, browser: Any) -> None:
    """One key labels and goes on; the arrows go back; names that are markup stay text."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    first = kept(store, HOSTILE, 0.9, part_id=HOSTILE)
    second = kept(store, doubt=0.1)
    with review(store) as server:
        browser.get_log("browser")
        browser.get(server.url)
        body = browser.find_element(By.TAG_NAME, "body")
        wait_until(lambda: "disposition" in body.text)
        assert HOSTILE in body.text
        wait_until(
            lambda: browser.execute_script(
                "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
            )
        )
        assert "0 of 2 labelled" in body.text
        choices = texts(browser, "#choices button")
        assert choices == [
            *("g GOOD", "d DRIFT", "u UNUSABLE", f"i {HOSTILE}", "m Missing"),
        ]
        if folder := os.environ.get("SCREENSHOTS"):
            browser.save_screenshot(f"{folder}/review.png")
        body.send_keys("m")
        wait_until(lambda: "1 of 2 labelled" in body.text)
        body.send_keys("g")
        wait_until(lambda: "Nothing left" in body.text)
        body.send_keys("z")
        wait_until(lambda: "1 of 2 labelled" in body.text)
        assert set(Labels(store.folder).latest()) == {first}
        # A class of one's own takes the next free key and moves no other.
        browser.find_element(By.ID, "new-label").send_keys("good" + Keys.ENTER)
        wait_until(lambda: "nearly 'GOOD'" in body.text)
        browser.find_element(By.ID, "new-label").send_keys("Dust" + Keys.ENTER)
        wait_until(lambda: "2 of 2 labelled" in body.text)
        body.send_keys(Keys.ARROW_LEFT)
        choices = texts(browser, "#choices button")
        assert [choice[0] for choice in choices] == ["g", "d", "u", "i", "m", "s"]
        body.send_keys("d")
        wait_until(lambda: Labels(store.folder).latest()[second].label == "DRIFT")
        assert Labels(store.folder).latest()[first].label == "Missing"
        assert browser.title == "Review of kept images"
        said = [entry for entry in browser.get_log("browser") if entry["source"] != "network"]
        assert said == []


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_one_key_labels_all_that_look_alike(
    store: Store, browser: Any, width: int, theme: str
) -> None:
    """With who and why; one that a person leaves out stays; one key takes all of them back."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    group = [scratched(store, 6, light, doubt=0.9 - light / 100) for light in (0, 40, 80)]
    other = scratched(store, 36, doubt=0.1)
    known = scratched(store, 36)
    Labels(store.folder).add(known, "Crack", "GOOD", "bert", "seen before")
    show_as(browser, width, 900, theme)

    def latest() -> dict[str, tuple[str, str, str]]:
        return {
            one: (label.label, label.who, label.note)
            for one, label in Labels(store.folder).latest().items()
            if one != known
        }

    with review(store) as server:
        browser.get(server.url)
        body = browser.find_element(By.TAG_NAME, "body")
        wait_until(lambda: "3 images look alike: 3 chosen" in body.text)
        wait_until(lambda: "Labelled images most like this one" in body.text)
        assert "Crack" in browser.find_element(By.ID, "neighbours").text
        fits = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert browser.execute_script(fits)
        body.send_keys(Keys.ENTER)
        browser.find_elements(By.CSS_SELECTOR, "#group button")[1].click()
        wait_until(lambda: "3 images look alike: 2 chosen" in body.text)
        why = browser.find_element(By.ID, "why")
        why.send_keys("bent" + Keys.ENTER)
        if folder := os.environ.get("SCREENSHOTS"):
            show_as(browser, width, 1900)
            browser.save_screenshot(f"{folder}/group-{theme}-{width}.png")
        body.send_keys("m")
        wait_until(lambda: "3 of 5 labelled" in body.text)
        assert latest() == dict.fromkeys((group[0], group[2]), ("Missing", "anna", "bent"))
        assert why.get_attribute("value") == ""
        body.send_keys("z")
        wait_until(lambda: "1 of 5 labelled" in body.text)
        assert latest() == {}
        wait_until(lambda: "3 images look alike: 3 chosen" in body.text)
        body.send_keys("m")
        # What comes next is not one of them.
        wait_until(lambda: "4 of 5 labelled" in body.text)
        assert not browser.find_element(By.ID, "alike").is_displayed()
        body.send_keys("g")
        wait_until(lambda: "Nothing left" in body.text)
        assert latest() == {
            **dict.fromkeys(group, ("Missing", "anna", "")), other: ("GOOD", "anna", "")
        }  # fmt: skip


def test_the_command_prints_an_address_that_answers(store: Store) -> None:
    kept(store)
    process = subprocess.Popen(
        [*EDGE_QC, "review", "--folder", str(store.folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        host, _, rest = address.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", f"/{rest}exhibits")
        assert len(json.loads(connection.getresponse().read())["exhibits"]) == 1
        connection.close()
    finally:
        process.terminate()
        process.wait(10)
    missing = edge_qc("review", "--folder", store.folder / "not")
    assert missing.returncode == 2
    assert "no image was kept yet" in missing.stderr
