"""The model bundle: read and verified, never changed.

A bundle is a folder, or the same folder as a ``.tar.zst``:

    manifest.json     all facts about the model; names, size and sha256 of every other file
    manifest.sha256   digest of manifest.json in hexadecimal: the bundle's id
    manifest.sig      Ed25519 signature of manifest.json, 64 bytes (optional)
    model.onnx        the graph: normalisation, trunk, classifier, PaDiM in one pass
    golden.npz        views, and the reference answers that an engine must reproduce
    report/           what people read about it

Verification goes outside in: digest, signature, schema, then every file by size and hash; nothing
but the manifest is parsed before all of it holds. Writing bundles is the workstation's work.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_qc.dies import Die
from edge_qc.errors import BundleError
from edge_qc.parts import DRIFT, GOOD, Disposition

SCHEMA_VERSION = 1
MANIFEST, DIGEST, SIGNATURE = "manifest.json", "manifest.sha256", "manifest.sig"
MODEL, GOLDEN = "model.onnx", "golden.npz"
OUTPUTS = ("logits", "distances", "drift", "embedding_distance")

_MANIFEST_LIMIT = 16 * 2**20
_UNPACKED_LIMIT = 8 * 2**30

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Model):
    """The view that the graph takes: uint8 [batch, 1, height, width]."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    batch: int = Field(gt=0)
    interpolation: Literal["area", "nearest"] = "area"
    mean: tuple[float, ...]
    std: tuple[Positive, ...]


class PaDiMSpec(_Model):
    """How the patch distances were made (Defard et al. 2020)."""

    layers: tuple[str, ...]
    channels: int = Field(gt=0)
    grid: tuple[int, int]
    fit: Literal["pooled", "per-class"]
    score: Literal["max", "mean"]


class ScoreTail(_Model):
    """How often held-out known parts score at least so much.

    scores: ascending; survival: the share of held-out scores at or above each, descending.
    Beyond the last knot the survival falls as exp(-(score - last) / scale), as the tail of a
    squared Mahalanobis distance of Gaussian features does. count: how many scores it rests on.
    """

    count: int = Field(gt=0)
    scores: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(min_length=2)
    survival: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(min_length=2)
    scale: Positive

    @model_validator(mode="after")
    def _monotone(self) -> ScoreTail:
        if len(self.scores) != len(self.survival):
            raise ValueError("scores and survival differ in length")
        if any(b <= a for a, b in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError("scores do not ascend")
        if any(b >= a for a, b in zip(self.survival, self.survival[1:], strict=False)):
            raise ValueError("survival does not descend")
        return self


ANY_DIE = "*"


class DriftCalibration(_Model):
    """Held-out scores of both witnesses and of their combination, by die (``*``: any die).

    combine: ``padim`` or ``embedding`` (that witness alone), ``fisher`` (-ln p1 - ln p2) or ``max``
    (the larger of the two). alpha: the share of known parts called drift at the threshold. prior:
    the share of parts that are drift, as the decision at least expected cost assumes it.
    """

    alpha: Fraction
    prior: Fraction
    combine: Literal["padim", "embedding", "fisher", "max"]
    padim: Mapping[str, ScoreTail]
    embedding: Mapping[str, ScoreTail]
    combined: Mapping[str, ScoreTail]

    @model_validator(mode="after")
    def _any_die(self) -> DriftCalibration:
        for name in ("padim", "embedding", "combined"):
            if ANY_DIE not in getattr(self, name):
                raise ValueError(f"{name} has no entry for any die ({ANY_DIE!r})")
        return self


class DecisionRule(_Model):
    """How readings become labels. policy: ``threshold`` is the report's rule, ``expected-cost``
    the decision at least expected cost. review_margin: REVIEW where the next label costs less
    than (1 + margin) times the cheapest. dispositions: by label."""

    policy: Literal["threshold", "expected-cost"]
    review_margin: float = Field(ge=0, default=0.0)
    dispositions: Mapping[str, Disposition]


class Tolerances(_Model):
    """How far an engine may be from the golden answers: logits and distances by the largest
    difference, drift relative to the reference."""

    logits: Positive
    drift: Positive
    embedding_distance: Positive


class FileEntry(_Model):
    sha256: Sha256
    size: int = Field(ge=0)


class Manifest(_Model):
    """All facts about a model. version is monotonic: a station refuses to go back by accident."""

    schema_version: int
    version: int = Field(gt=0)
    name: str = Field(min_length=1, max_length=100)
    created: str
    producer: str
    network: str
    classes: tuple[str, ...] = Field(min_length=2)
    dies: Mapping[str, Die] = Field(min_length=1)
    input: InputSpec
    precision: Literal["fp32", "fp16"]
    opset: int
    padim: PaDiMSpec
    temperature: Positive
    drift: DriftCalibration
    decision: DecisionRule
    costs: Mapping[str, Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]]
    tolerances: Tolerances
    files: Mapping[str, FileEntry]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes repeat a name: {list(self.classes)}")
        if GOOD not in self.classes or DRIFT in self.classes:
            raise ValueError(f"classes must hold {GOOD} and not {DRIFT}, got {list(self.classes)}")
        labels = {*self.classes, DRIFT}
        if set(self.costs) != labels or any(set(row) != labels for row in self.costs.values()):
            raise ValueError(f"costs must name {sorted(labels)} in rows and columns")
        if set(self.decision.dispositions) != labels:
            raise ValueError(f"dispositions must name {sorted(labels)}")
        for label, disposition in self.decision.dispositions.items():
            if disposition is Disposition.PASS and label != GOOD:
                raise ValueError(f"disposition PASS for {label!r}: only GOOD may pass")
        for name in (MODEL, GOLDEN):
            if name not in self.files:
                raise ValueError(f"files do not name {name}")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the graph's order, then DRIFT."""
        return (*self.classes, DRIFT)

    def cost_matrix(self) -> NDArray[np.float64]:
        """(C + 1, C + 1): cost[true, predicted] in the order of ``labels``."""
        return np.array([[self.costs[t][p] for p in self.labels] for t in self.labels], np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Views and the answers that torch gave in FP32: n views of every die and class, and drift.

    views: (n, 1, H, W) uint8; labels and dies: n names; logits (n, C), distances (n, gh, gw),
    drift (n,), embedding_distance (n,) float32.
    """

    views: NDArray[np.uint8]
    labels: tuple[str, ...]
    dies: tuple[str, ...]
    logits: NDArray[np.float32]
    distances: NDArray[np.float32]
    drift: NDArray[np.float32]
    embedding_distance: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was verified whole. id: the sha256 of its manifest."""

    path: Path
    id: str
    manifest: Manifest
    signed: bool

    @property
    def model(self) -> Path:
        return self.path / MODEL

    def golden(self) -> Golden:
        """The golden views and answers. Raises BundleError where their shapes do not fit."""
        manifest = self.manifest
        try:
            with np.load(self.path / GOLDEN, allow_pickle=False) as arrays:
                golden = Golden(
                    views=arrays["views"],
                    labels=tuple(str(label) for label in arrays["labels"]),
                    dies=tuple(str(die) for die in arrays["dies"]),
                    logits=arrays["logits"],
                    distances=arrays["distances"],
                    drift=arrays["drift"],
                    embedding_distance=arrays["embedding_distance"],
                )
        except (OSError, ValueError, KeyError) as error:
            raise BundleError(
                f"{self.path / GOLDEN}: not a set of golden answers: {error}"
            ) from error
        count = len(golden.labels)
        wanted = {
            "views": (count, 1, manifest.input.height, manifest.input.width),
            "dies": (count,),
            "logits": (count, len(manifest.classes)),
            "distances": (count, *manifest.padim.grid),
            "drift": (count,),
            "embedding_distance": (count,),
        }
        for name, shape in wanted.items():
            seen = np.shape(getattr(golden, name))
            if seen != shape or count == 0:
                raise BundleError(f"{self.path / GOLDEN}: {name} has shape {seen}, wanted {shape}")
        return golden


def open_bundle(path: Path, public_key: Path | None = None) -> Bundle:
    """Verify the bundle at ``path`` and read its manifest.

    path: a folder; unpack a ``.tar.zst`` first (``unpack_bundle``). public_key: a PEM file with an
    Ed25519 key; with it an unsigned bundle is refused. Raises BundleError that names the file, what
    was seen and what was wanted; nothing but the manifest is parsed before everything holds.
    """
    if not path.is_dir():
        kind = "a file" if path.exists() else "nothing"
        raise BundleError(
            f"bundle {path}: {kind} there, wanted a bundle folder. "
            "Make one with 'edge-qc export', or correct the path"
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
    if public_key is not None:
        if not signed:
            raise BundleError(
                f"bundle {path}: is not signed, and this station demands the signature of "
                f"{public_key}. Export it with --sign"
            )
        _verify_signature(path, raw, public_key)
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
    folder.mkdir(parents=True, exist_ok=True)
    size = 0
    try:
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
    except (OSError, tarfile.TarError, zstandard.ZstdError) as error:
        raise BundleError(f"bundle {archive}: is not a whole .tar.zst: {error}") from error
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


def _verify_signature(path: Path, raw: bytes, public_key: Path) -> None:
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
        key.verify(_read(path, SIGNATURE, 1000), raw)
    except InvalidSignature as error:
        raise BundleError(
            f"bundle {path}: {SIGNATURE} is not the signature of {public_key}'s owner. "
            "Get the bundle from its maker, or the right public key"
        ) from error


def _parse(path: Path, raw: bytes) -> Manifest:
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise BundleError(f"bundle {path}: {MANIFEST} is not JSON: {error}") from error
    schema = document.get("schema_version") if isinstance(document, dict) else None
    if schema != SCHEMA_VERSION:
        raise BundleError(
            f"bundle {path}: schema version {schema}, this station reads {SCHEMA_VERSION}. "
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
