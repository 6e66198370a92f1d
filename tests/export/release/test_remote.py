"""A bundle released on a station: a real sshd on the loopback, ONNX Runtime in TensorRT's place."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[2]

from edge_qc import cli  # noqa: E402
from edge_qc.bundle.verification import open_bundle  # noqa: E402
from edge_qc.errors import AcceptanceError, BundleError, DeviceError, EngineError, UsageError  # noqa: E402
from edge_qc_export.learn.checkpoints import Run  # noqa: E402
from edge_qc_export.release.remote import RemoteRelease, release_on  # noqa: E402
from tests.rig.programs import need  # noqa: E402
from tests.rig.tiny_bundle import make_bundle  # noqa: E402
from tests.rig.trained import EDGE_QC  # noqa: E402


@dataclass(frozen=True)
class Station:
    """Where our sshd listens, and the client's command that logs in there."""

    target: str
    ssh: tuple[str, ...]
    folder: Path
    command: Path

    def release(self, bundle: Path, **options: Any) -> RemoteRelease:
        options = {"command": str(self.command), "engine": "onnxruntime", **options}
        return release_on(bundle, self.target, folder=str(self.folder), ssh=self.ssh, **options)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A user-owned sshd with keys of its own; nothing of the machine's ssh is touched."""
    server, keygen = need("sshd", "ssh", "ssh-keygen"), need("ssh-keygen")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder / 'host'}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'user.pub'}\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitUserEnvironment no\n"
    )
    process = subprocess.Popen(
        [server, "-D", "-e", "-f", folder / "config"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            pytest.skip("needs an sshd that starts")
        yield f"{getpass.getuser()}@127.0.0.1", (
            "ssh", "-F", "none", "-p", str(port), "-i", str(folder / "user"),
            "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oIdentitiesOnly=yes",
            f"-oUserKnownHostsFile={folder / 'known'}", "-oLogLevel=ERROR",
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def station(sshd: tuple[str, tuple[str, ...]], tmp_path: Path) -> Station:
    command = tmp_path / "edge-qc"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(EDGE_QC)} "$@"\n')
    command.chmod(0o755)
    target, ssh = sshd
    return Station(target, ssh, tmp_path / "on the station", command)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def test_it_copies_builds_accepts_and_brings_the_report_back(
    station: Station, bundle: Path, tmp_path: Path
) -> None:
    heard: list[str] = []
    kept = tmp_path / "reports" / "station.json"
    done = station.release(bundle, out=kept, say=heard.append)
    assert done.report["accepted"] is True
    assert done.report["engine"].startswith("onnxruntime")
    assert done.report == json.loads(kept.read_text())
    assert done.copied
    assert any("copying" in line for line in heard)
    there = Path(done.folder)
    assert {file.name for file in there.iterdir()} == {file.name for file in bundle.iterdir()}
    assert not list(there.parent.glob("*.new"))


def test_a_second_time_copies_nothing(station: Station, bundle: Path) -> None:
    assert station.release(bundle).copied
    assert not station.release(bundle).copied


def test_a_damaged_copy_is_replaced(station: Station, bundle: Path) -> None:
    there = Path(station.release(bundle).folder)
    model = bytearray((there / "model.onnx").read_bytes())
    model[-1] ^= 1
    (there / "model.onnx").write_bytes(model)
    heard: list[str] = []
    assert station.release(bundle, say=heard.append).copied
    assert any("model.onnx was altered" in line for line in heard)


def test_a_refusal_comes_back_with_its_table(station: Station, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "wrong", shift=0.5)
    kept = tmp_path / "refused.json"
    with pytest.raises(AcceptanceError, match=r"logits: largest difference 0\.5"):
        station.release(bundle, out=kept)
    assert json.loads(kept.read_text())["accepted"] is False


def test_a_failed_build_brings_the_stations_words(station: Station, bundle: Path) -> None:
    heard: list[str] = []
    with pytest.raises(EngineError, match="TensorRT's Python bindings cannot be imported"):
        station.release(bundle, engine="tensorrt", say=heard.append)
    assert any("edge-qc: error" in line for line in heard)


def test_a_station_without_edge_qc_is_told_so(station: Station, bundle: Path) -> None:
    with pytest.raises(DeviceError, match="is edge-qc installed there"):
        station.release(bundle, command="/nowhere/edge-qc")


def test_a_station_that_lets_nobody_in_is_told_so(
    sshd: tuple[str, tuple[str, ...]], bundle: Path
) -> None:
    target, ssh = sshd
    strangers = tuple("/dev/null" if part.endswith("/user") else part for part in ssh)
    with pytest.raises(DeviceError, match="Permission denied"):
        release_on(bundle, target, ssh=strangers)


def test_a_full_station_is_told(station: Station, bundle: Path) -> None:
    station.folder.write_text("a file where the folder should be")
    with pytest.raises(DeviceError, match="could not be copied"):
        station.release(bundle)


@pytest.mark.parametrize("target", ["-oProxyCommand=touch /tmp/x", "a b", "", "a;b"])
def test_a_target_is_never_taken_for_an_option(bundle: Path, target: str) -> None:
    with pytest.raises(UsageError, match="user@station"):
        release_on(bundle, target, ssh=("false",))


def test_what_is_no_bundle_never_leaves(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        release_on(tmp_path, "user@station", ssh=("false",))


@pytest.mark.torch
def test_export_on_a_station(
    station: Station,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`edge-qc export RUN --on USER@STATION` ends with the station's own acceptance report, kept
    beside the bundle; what is wrong over there is told, and the bundle stays."""
    client = tmp_path / "bin" / "ssh"
    client.parent.mkdir()
    real = shutil.which("ssh")
    options = " ".join(station.ssh[1:])
    client.write_text(f'#!/bin/sh\nexec {real} {options} "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    out = tmp_path / "bundle"
    asked = [str(run.folder), "--out", str(out), "--on", station.target]
    asked += ["--engine", "onnxruntime", "--json", "--station-command"]

    monkeypatch.setattr(sys, "argv", ["edge-qc", "export", *asked, "/nowhere/edge-qc"])
    assert cli.status() == 1
    assert "is edge-qc installed there?" in capsys.readouterr().err
    assert not out.exists()  # asked before the fit

    builds_not = tmp_path / "builds-not"
    builds_not.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo no GPU >&2; exit 1; }\n')
    builds_not.chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["edge-qc", "export", *asked, str(builds_not)])
    assert cli.status() == 1
    said = capsys.readouterr().err
    assert "no GPU" in said
    assert f"The bundle {out} is whole. Copy that folder to the station" in said
    assert "'edge-qc build BUNDLE --engine onnxruntime'" in said
    shutil.rmtree(Path.home() / "edge-qc-bundles" / open_bundle(out).id[:16])
    shutil.rmtree(out)

    monkeypatch.setattr(sys, "argv", ["edge-qc", "export", *asked, str(station.command)])
    assert cli.status() == 0
    answer = json.loads(capsys.readouterr().out)
    shutil.rmtree(Path.home() / "edge-qc-bundles" / answer["id"][:16])
    assert answer["acceptance"]["accepted"] is True
    assert answer["acceptance"]["bundle"]["id"] == answer["id"]
    kept = json.loads(Path(answer["acceptance_report"]).read_text(encoding="utf-8"))
    assert kept == answer["acceptance"]


@pytest.mark.torch
def test_export_accepts_here_where_it_is_asked_to(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "b"
    asked = ["edge-qc", "export", str(run.folder), "--out", str(out), "--engine", "onnxruntime"]
    monkeypatch.setattr(sys, "argv", asked)
    assert cli.status() == 0
    assert "accepted: onnxruntime" in capsys.readouterr().out
    assert (tmp_path / "b.acceptance.json").exists()
