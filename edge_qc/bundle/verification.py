"""The model bundle: read and verified, never changed.

A bundle is a folder, or the same folder as a ``.tar.zst``:

    manifest.json     all facts about the model; names, size and sha256 of every other file
    manifest.sha256   digest of manifest.json in hexadecimal: the bundle's id
    manifest.sig      Ed25519 signature of manifest.json, 64 bytes (optional)
    model.onnx        the graph: normalisation, trunk, classifier, PaDiM in one pass
    golden.npz        views, and the reference answers that an engine must reproduce
    alignment.npz     what each die's part is found by (only of schema 3)
    parts.npz         scores of the labelled parts, for a calibration (optional)
    report/           what people read about it

Verification goes outside in: digest, signature, schema, then every file by size and hash. Only the
manifest is parsed before all of it holds. The workstation writes bundles.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from edge_qc.bundle.alignment import ALIGNMENT, Edges, read_edges
from edge_qc.bundle.golden import Golden, read_golden
from edge_qc.bundle.manifest import (
    DIGEST,
    GOLDEN,
    MANIFEST,
    MODEL,
    READABLE,
    SIGNATURE,
    Manifest,
)
from edge_qc.errors import BundleError

_MANIFEST_LIMIT = 16 * 2**20
_UNPACKED_LIMIT = 8 * 2**30


@dataclass(frozen=True, slots=True)
class Bundle:
    """A completely verified bundle. id: the sha256 of its manifest."""

    path: Path
    id: str
    manifest: Manifest
    signed: bool

    @property
    def model(self) -> Path:
        return self.path / MODEL

    def golden(self) -> Golden:
        """The golden views and answers. Raises BundleError if their shapes are wrong."""
        return read_golden(self.path / GOLDEN, self.manifest)

    def edges(self) -> dict[str, Edges]:
        """What each die's part is found by; empty where parts are taken to lie in their place.
        Raises BundleError if the file is not of this bundle's dies."""
        if self.manifest.alignment is None:
            return {}
        return read_edges(self.path / ALIGNMENT, self.manifest.alignment)


def open_bundle(path: Path, public_key: Path | None = None) -> Bundle:
    """Verify the bundle at ``path`` and read its manifest.

    path: a folder; unpack a ``.tar.zst`` first (``unpack_bundle``). public_key: a PEM file with an
    Ed25519 key; with it an unsigned bundle is refused. Raises BundleError that names the file, what
    was seen and what was wanted; nothing but the manifest is parsed before everything holds.
    """
    if not path.is_dir():
        kind = "a file" if path.exists() else "nothing"
        todo = "Make one with 'edge-qc export', or correct the path"
        if path.is_file() and path.name.endswith(".tar.zst"):
            kind, todo = "an archive", f"Unpack it: tar --zstd -xf {path}"
        raise BundleError(f"bundle {path}: {kind} there, wanted a bundle folder. {todo}")
    if (path / "run.json").exists() and not (path / MANIFEST).exists():
        raise BundleError(
            f"bundle {path}: is a training's run, wanted a bundle. Make one of it: edge-qc export "
            f"{path}"
        )
    raw = _read(path, MANIFEST, _MANIFEST_LIMIT)
    digest = hashlib.sha256(raw).hexdigest()
    stated = _read(path, DIGEST, 200).decode("ascii", "replace").split()
    if not stated or stated[0] != digest:
        raise BundleError(
            f"bundle {path}: {MANIFEST} was altered: its sha256 is {digest}, {DIGEST} says "
            f"{stated[0] if stated else 'nothing'}. Copy the bundle again from where it was made"
        )
    signed = (path / SIGNATURE).exists()
    signature = _read(path, SIGNATURE, 1000) if signed else b""
    if public_key is not None:
        if not signed:
            raise BundleError(
                f"bundle {path}: is not signed, and this station demands the signature of "
                f"{public_key}. Export it with --sign"
            )
        _verify_signature(path, raw, signature, public_key)
    manifest = _parse(path, raw)
    _verify_files(path, manifest)
    return Bundle(path=path, id=digest, manifest=manifest, signed=signed)


def unpack_bundle(archive: Path, folder: Path) -> Path:
    """Unpack a ``.tar.zst`` of a bundle into ``folder`` and return the folder that holds the
    manifest. Raises BundleError for anything in it but plain files and folders inside it."""
    try:
        import zstandard
    except ImportError as error:
        raise BundleError(
            f"bundle {archive}: to unpack it, install zstandard (pip install zstandard)"
        ) from error
    size = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            archive.open("rb") as compressed,
            zstandard.ZstdDecompressor().stream_reader(compressed) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for member in tar:
                name = PurePosixPath(member.name)
                if (
                    name.is_absolute()
                    or ".." in name.parts
                    or not (member.isfile() or member.isdir())
                ):
                    raise BundleError(
                        f"bundle {archive}: refuses {member.name!r}: only plain files inside the "
                        "bundle are taken"
                    )
                size += member.size
                if size > _UNPACKED_LIMIT:
                    raise BundleError(
                        f"bundle {archive}: unpacks to more than {_UNPACKED_LIMIT} bytes"
                    )
                target = folder / name
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with target.open("wb") as out:
                    while block := source.read(1 << 20):
                        out.write(block)
    except (tarfile.TarError, zstandard.ZstdError) as error:
        raise BundleError(
            f"bundle {archive}: is not a whole .tar.zst: {error}. Copy it here again"
        ) from error
    except OSError as error:
        raise BundleError(
            f"bundle {archive}: cannot be unpacked into {folder}: {error}. Make room there, or "
            "correct the path"
        ) from error
    manifests = sorted(folder.rglob(MANIFEST))
    if len(manifests) != 1:
        raise BundleError(f"bundle {archive}: holds {len(manifests)} {MANIFEST}, wanted one")
    return manifests[0].parent


def _read(path: Path, name: str, limit: int) -> bytes:
    file = path / name
    if file.is_symlink():
        raise BundleError(f"bundle {path}: {name} is a link, wanted a plain file")
    try:
        with file.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as error:
        raise BundleError(f"bundle {path}: {name} cannot be read: {error}") from error
    if len(raw) > limit:
        raise BundleError(f"bundle {path}: {name} is longer than {limit} bytes")
    return raw


def _verify_signature(path: Path, raw: bytes, signature: bytes, public_key: Path) -> None:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise BundleError(
            "to check signatures, install cryptography (pip install cryptography)"
        ) from error
    try:
        key = load_pem_public_key(public_key.read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"public key {public_key}: cannot be read as PEM: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"public key {public_key}: is not an Ed25519 key")
    try:
        key.verify(signature, raw)
    except InvalidSignature as error:
        raise BundleError(
            f"bundle {path}: {SIGNATURE} is not the signature of {public_key}'s owner. "
            "Get the bundle from its maker, or the right public key"
        ) from error


def _parse(path: Path, raw: bytes) -> Manifest:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"bundle {path}: {MANIFEST} is not JSON: {error}") from error
    schema = document.get("schema_version") if isinstance(document, dict) else None
    if schema not in READABLE:
        raise BundleError(
            f"bundle {path}: schema version {schema}, this station reads "
            f"{' and '.join(map(str, READABLE))}. "
            "Update edge-qc on the station, or export again"
        )
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise BundleError(f"bundle {path}: {MANIFEST}: {faults}") from error


def _verify_files(path: Path, manifest: Manifest) -> None:
    present = set()
    for entry in path.rglob("*"):
        name = entry.relative_to(path).as_posix()
        if entry.is_symlink():
            raise BundleError(f"bundle {path}: {name} is a link, wanted a plain file")
        if entry.is_file():
            present.add(name)
    extra = present - set(manifest.files) - {MANIFEST, DIGEST, SIGNATURE}
    if extra:
        raise BundleError(
            f"bundle {path}: holds files that its manifest does not name: {sorted(extra)}"
        )
    for name, wanted in manifest.files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or pure.as_posix() != name:
            raise BundleError(f"bundle {path}: the manifest names {name!r}, outside the bundle")
        if name not in present:
            raise BundleError(f"bundle {path}: {name} is missing")
        size = (path / name).stat().st_size
        if size != wanted.size:
            raise BundleError(f"bundle {path}: {name} has {size} bytes, wanted {wanted.size}")
        digest = hashlib.sha256()
        with (path / name).open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != wanted.sha256:
            raise BundleError(
                f"bundle {path}: {name} was altered: sha256 {digest.hexdigest()}, "
                f"wanted {wanted.sha256}. Copy the bundle again from where it was made"
            )
