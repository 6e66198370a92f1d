"""Bundles: only a whole, unaltered one of the right make is opened."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_qc.bundle.alignment import Alignment, DieTemplate, alignment_bytes, read_edges
from edge_qc.bundle.golden import read_golden
from edge_qc.bundle.manifest import DIGEST, GOLDEN, MANIFEST, MODEL, SIGNATURE
from edge_qc.bundle.verification import open_bundle, unpack_bundle
from edge_qc.cli.inspect import command as inspect
from edge_qc.errors import BundleError

TAIL = {"count": 40, "scores": [1.0, 2.0], "survival": [1.0, 0.1], "scale": 1.0}
LABELS = ("GOOD", "missing", "DRIFT")


def document(**changes: Any) -> dict[str, Any]:
    """A manifest that names no files yet."""
    tails = {"*": TAIL}
    return {
        "schema_version": 1,
        "version": 7,
        "name": "made by hand",
        "created": "2026-01-01T00:00:00Z",
        "producer": "test",
        "network": "cnn-basic",
        "classes": ["GOOD", "missing"],
        "dies": {"Die01": {"angle": 55.0, "box": [0, 0, 8, 8]}},
        "input": {"height": 8, "width": 8, "batch": 1, "mean": [0.5], "std": [0.5]},
        "precision": "fp32",
        "opset": 18,
        "padim": {
            "layers": ["block1"],
            "channels": 4,
            "grid": [2, 2],
            "fit": "per-class",
            "score": "mean",
        },
        "temperature": 1.0,
        "drift": {
            "alpha": 0.01,
            "prior": 0.05,
            "assumed_auroc": 0.9,
            "combine": "fisher",
            "padim": tails,
            "embedding": tails,
            "combined": tails,
        },
        "decision": {
            "policy": "threshold",
            "dispositions": {"GOOD": "PASS", "missing": "REJECT", "DRIFT": "REVIEW"},
        },
        "costs": {true: {said: float(true != said) for said in LABELS} for true in LABELS},
        "tolerances": {"logits": 0.1, "drift": 0.1, "embedding_distance": 0.1},
        **changes,
    }


def write(
    path: Path, manifest: dict[str, Any] | None = None, key: Ed25519PrivateKey | None = None
) -> Path:
    """A bundle folder, hashed and signed as an honest maker would."""
    arrays = {
        "views": np.zeros((1, 1, 8, 8), np.uint8),
        "labels": np.array(["GOOD"]),
        "dies": np.array(["Die01"]),
        "logits": np.zeros((1, 2), np.float32),
        "distances": np.zeros((1, 2, 2), np.float32),
        "drift": np.zeros(1, np.float32),
        "embedding_distance": np.zeros(1, np.float32),
    }
    golden = io.BytesIO()
    np.savez(golden, **arrays)  # type: ignore[arg-type]
    contents = {MODEL: b"not a graph, and nobody asks", GOLDEN: golden.getvalue()}
    manifest = document() if manifest is None else manifest
    manifest.setdefault(
        "files",
        {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            for name, content in contents.items()
        },
    )
    path.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (path / name).write_bytes(content)
    seal(path, json.dumps(manifest, indent=1).encode(), key)
    return path


def seal(path: Path, raw: bytes, key: Ed25519PrivateKey | None = None) -> None:
    (path / MANIFEST).write_bytes(raw)
    (path / DIGEST).write_text(hashlib.sha256(raw).hexdigest())
    if key is not None:
        (path / SIGNATURE).write_bytes(key.sign(raw))


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def public_key(key: Ed25519PrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "key.pub"
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, key: Ed25519PrivateKey) -> Path:
    return write(tmp_path_factory.mktemp("whole") / "bundle", key=key)


def test_a_whole_bundle_is_opened_and_its_id_is_the_manifests_digest(
    whole: Path, public_key: Path
) -> None:
    bundle = open_bundle(whole, public_key)
    assert bundle.id == hashlib.sha256((whole / MANIFEST).read_bytes()).hexdigest()
    assert bundle.signed
    assert bundle.manifest.labels == LABELS
    assert bundle.golden().labels == ("GOOD",)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_refused(
    whole: Path, public_key: Path, data: st.DataObject
) -> None:
    file = whole / data.draw(st.sampled_from([MANIFEST, DIGEST, SIGNATURE, MODEL, GOLDEN]))
    content = file.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    altered = bytearray(content)
    altered[at] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(altered)
    try:
        with pytest.raises(BundleError):
            open_bundle(whole, public_key)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("name", [MANIFEST, DIGEST, MODEL, GOLDEN])
def test_an_unsigned_bundle_too_shows_an_altered_file(tmp_path: Path, name: str) -> None:
    bundle = write(tmp_path / "bundle")
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match="altered"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", [MODEL, GOLDEN])
def test_a_truncated_file_is_refused_with_both_sizes(tmp_path: Path, name: str) -> None:
    bundle = write(tmp_path / "bundle")
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=f"{len(content) - 1} bytes, wanted {len(content)}"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", [MANIFEST, DIGEST, MODEL])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    bundle = write(tmp_path / "bundle")
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name):
        open_bundle(bundle)


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle")
    (bundle / "plugin.so").write_bytes(b"")
    with pytest.raises(BundleError, match=r"plugin\.so"):
        open_bundle(bundle)


def test_an_unsigned_bundle_is_refused_where_a_signature_is_demanded(
    tmp_path: Path, public_key: Path
) -> None:
    with pytest.raises(BundleError, match=r"not signed.*--sign"):
        open_bundle(write(tmp_path / "bundle"), public_key)


def test_another_owners_signature_is_refused(tmp_path: Path, public_key: Path) -> None:
    bundle = write(tmp_path / "bundle", key=Ed25519PrivateKey.generate())
    with pytest.raises(BundleError, match="not the signature"):
        open_bundle(bundle, public_key)


def test_a_newer_schema_is_refused_before_its_fields_are_read(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", {"schema_version": 4, "files": {}, "unheard_of": 1})
    with pytest.raises(BundleError, match=r"schema version 4.*reads 1.* 3.*Update"):
        open_bundle(bundle)


def test_several_mistakes_of_a_manifest_are_named_at_once(tmp_path: Path) -> None:
    wrong = document(temperature=-1, opset="many", unheard_of=1)
    with pytest.raises(BundleError) as caught:
        open_bundle(write(tmp_path / "bundle", wrong))
    assert all(name in str(caught.value) for name in ("temperature", "opset", "unheard_of"))


def test_a_version_that_no_database_holds_is_refused(tmp_path: Path) -> None:
    """A date and time as one number: the recorder on PostgreSQL could not keep it."""
    open_bundle(write(tmp_path / "last", document(version=2**31 - 1)))
    with pytest.raises(BundleError, match="version 202611051230: wanted at most 2147483647"):
        open_bundle(write(tmp_path / "beyond", document(version=202611051230)))


def test_a_manifest_under_which_another_class_passes_is_refused(tmp_path: Path) -> None:
    wrong = document()
    wrong["decision"]["dispositions"]["missing"] = "PASS"
    with pytest.raises(BundleError, match="only GOOD may pass"):
        open_bundle(write(tmp_path / "bundle", wrong))


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "./model.onnx"])
def test_a_manifest_that_names_a_path_outside_is_refused(tmp_path: Path, name: str) -> None:
    bundle = write(tmp_path / "bundle")
    (tmp_path / "outside").write_bytes(b"")
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"] = {name: {"sha256": hashlib.sha256().hexdigest(), "size": 0}} | manifest[
        "files"
    ]
    seal(bundle, json.dumps(manifest).encode())
    with pytest.raises(BundleError, match="outside the bundle"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", [MANIFEST, DIGEST, MODEL, "report"])
def test_a_link_in_a_bundle_is_refused(tmp_path: Path, name: str) -> None:
    bundle = write(tmp_path / "bundle")
    aside = tmp_path / "aside"
    if (bundle / name).exists():
        (bundle / name).rename(aside)
    else:
        aside.mkdir()
    (bundle / name).symlink_to(aside)
    with pytest.raises(BundleError, match="link"):
        open_bundle(bundle)


def test_a_manifest_of_absurd_length_is_not_read(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle")
    with (bundle / MANIFEST).open("ab") as stream:
        stream.truncate(17 * 2**20)
    with pytest.raises(BundleError, match="longer than"):
        open_bundle(bundle)


def test_a_path_without_a_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="edge-qc export"):
        open_bundle(tmp_path / "nothing")


def test_golden_answers_of_another_shape_are_refused(tmp_path: Path) -> None:
    wrong = document()
    wrong["padim"]["grid"] = [4, 4]
    bundle = open_bundle(write(tmp_path / "bundle", wrong))
    with pytest.raises(BundleError, match=r"distances has shape \(1, 2, 2\), wanted \(1, 4, 4\)"):
        bundle.golden()


def test_golden_answers_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    write(path)
    golden = io.BytesIO()
    np.savez(golden, views=np.array([{"a": 1}], dtype=object))
    content = golden.getvalue()
    manifest = json.loads((path / MANIFEST).read_text())
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    manifest["files"][GOLDEN] = entry
    (path / GOLDEN).write_bytes(content)
    seal(path, json.dumps(manifest).encode())
    with pytest.raises(BundleError, match="golden"):
        open_bundle(path).golden()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_arrays_that_are_cut_short_or_altered_are_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A run folder has no hashes that would be looked at first."""
    file = tmp_path_factory.mktemp("run") / "alignment.npz"
    bounds = Alignment(
        shift=0.1, turn=5, dies={"Die01": DieTemplate(step=1, anchor=(4, 4), limit=0.5)}
    )
    rng = np.random.default_rng(0)
    whole = alignment_bytes({"Die01": rng.integers(-127, 128, (2, 9, 9), np.int8)})
    if data.draw(st.booleans()):
        file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(BundleError, match=r"alignment\.npz: "):
            read_edges(file, bounds)
        return
    altered = bytearray(whole)
    altered[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(altered)
    with suppress(BundleError):
        read_edges(file, bounds)


def test_golden_answers_that_are_cut_short_are_refused_in_words(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole") / GOLDEN
    cut = tmp_path / GOLDEN
    manifest = open_bundle(tmp_path / "whole").manifest
    for end in (0, 10, 500, whole.stat().st_size - 1):
        cut.write_bytes(whole.read_bytes()[:end])
        with pytest.raises(BundleError, match=r"golden\.npz: is not a set of golden answers"):
            read_golden(cut, manifest)


def archive(file: Path, members: list[tarfile.TarInfo], content: bytes = b"") -> Path:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member in members:
            member.size = len(content) if member.isfile() else 0
            tar.addfile(member, io.BytesIO(content))
    file.write_bytes(zstandard.ZstdCompressor().compress(packed.getvalue()))
    return file


def pack(bundle: Path, file: Path) -> Path:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(bundle, "bundle")
    file.write_bytes(zstandard.ZstdCompressor().compress(packed.getvalue()))
    return file


def test_an_archive_unpacks_to_the_same_bundle(whole: Path, tmp_path: Path) -> None:
    unpacked = unpack_bundle(pack(whole, tmp_path / "b.tar.zst"), tmp_path / "out")
    assert open_bundle(unpacked).id == open_bundle(whole).id


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/../../escaped"])
def test_an_archive_that_reaches_outside_writes_nothing_there(tmp_path: Path, name: str) -> None:
    file = archive(tmp_path / "b.tar.zst", [tarfile.TarInfo(name)], b"x")
    with pytest.raises(BundleError, match="refuses"):
        unpack_bundle(file, tmp_path / "out")
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_an_archive_with_anything_but_files_is_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("bundle/model.onnx")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(BundleError, match="refuses"):
        unpack_bundle(archive(tmp_path / "b.tar.zst", [member]), tmp_path / "out")


def test_half_an_archive_is_refused(whole: Path, tmp_path: Path) -> None:
    file = pack(whole, tmp_path / "b.tar.zst")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(BundleError):
        unpack_bundle(file, tmp_path / "out")


def test_a_disk_without_room_is_not_the_archives_fault(whole: Path, tmp_path: Path) -> None:
    file = pack(whole, tmp_path / "b.tar.zst")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(BundleError, match=r"cannot be unpacked into .*too large.*Make room"):
            unpack_bundle(file, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_inspect_shows_what_a_bundle_is(whole: Path, public_key: Path) -> None:
    result = CliRunner().invoke(inspect, [str(whole), "--public-key", str(public_key)])
    assert result.exit_code == 0
    for text in ("made by hand", "GOOD: PASS", "valid", "55 degrees", "per-class", "any die: 40"):
        assert text in result.output


def test_inspect_takes_an_archive_and_answers_json(whole: Path, tmp_path: Path) -> None:
    file = pack(whole, tmp_path / "b.tar.zst")
    answer = json.loads(CliRunner().invoke(inspect, [str(file), "--json"]).output)
    assert answer["id"] == open_bundle(whole).id
    assert answer["manifest"]["dies"]["Die01"]["box"] == [0, 0, 8, 8]


def test_a_run_in_a_bundles_place_is_told_what_to_do_with_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(BundleError, match=r"is a training's run.*edge-qc export"):
        open_bundle(tmp_path)
