"""A bundle written: files, then the manifest that names them, its digest, its signature.

Written beside its name and renamed when whole, so that a bundle is there complete or not at all.
What a bundle holds is said in ``edge_qc.bundle.verification``; what goes into this one is
``release``'s work.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_qc.bundle.manifest import DIGEST, MANIFEST, MOST_VERSION, SIGNATURE, FileEntry, Manifest
from edge_qc.bundle.verification import Bundle, open_bundle
from edge_qc.errors import EdgeQCError, UsageError
from edge_qc_export.whole_file import require_utf8, require_writable, write_whole


def archive_of(bundle: Path) -> Path:
    """The name of its archive, beside it."""
    whole = bundle if bundle.name else bundle.resolve()
    return whole.with_name(f"{whole.name}.tar.zst")


def require_free_archive(file: Path) -> None:
    """Raise UsageError where an archive's name is taken."""
    if file.exists():
        raise UsageError(f"archive {file}: is there already. Give another --out, or remove it")


def require_version(number: int, before: Manifest | None = None) -> None:
    """Raise UsageError for a version that no bundle can have, or one that cannot come after that of
    ``before``."""
    if number > MOST_VERSION:
        raise UsageError(
            f"version {number}: wanted at most {MOST_VERSION}, the largest that a plant's database "
            "holds. If it is a date and time, count up from the last version instead, or leave "
            "--version out"
        )
    least = 1 if before is None else before.version + 1
    if number < least:
        after = "" if before is None else f", more than that of {before.name}"
        raise UsageError(f"version {number}: wanted at least {least}{after}")


def require_free(out: Path) -> None:
    """Raise UsageError where ``out`` is taken, since a bundle is written once and never changed, or
    where no folder can be made."""
    require_utf8(out, f"bundle {out}")
    require_writable(out.absolute().parent, f"bundle {out}")
    if out.is_symlink() or out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(
            f"bundle {out}: something is there already, and a bundle is never changed. "
            "Give another --out, or remove it"
        )


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as it is hashed and signed."""
    document = manifest.model_dump(mode="json", exclude_none=True)
    return (json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def write_bundle(
    out: Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    key: Ed25519PrivateKey | None,
    prove: Callable[[Bundle], object],
) -> Bundle:
    """Write the bundle folder ``out`` and return it verified.

    manifest: its ``files`` are filled in here. files: contents by name in the bundle. prove: called
    with the bundle before it gets its name; what it raises leaves nothing behind.
    """
    require_free(out)
    entries = {
        name: FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in sorted(files.items())
    }
    raw = manifest_bytes(manifest.model_copy(update={"files": entries}))
    digest = hashlib.sha256(raw).hexdigest()
    # The digest alone: whatever byte of it is flipped, it is no longer the digest.
    contents = {**files, MANIFEST: raw, DIGEST: digest.encode()}
    if key is not None:
        contents[SIGNATURE] = key.sign(raw)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        for name, content in contents.items():
            file = partial / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        prove(open_bundle(partial))
        if out.is_dir():
            out.rmdir()
        os.replace(partial, out)
    except OSError as error:
        raise EdgeQCError(
            f"bundle {out}: cannot be written ({error.strerror}); "
            f"{sum(map(len, contents.values())) / 2**20:.1f} MiB are wanted there"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return open_bundle(out)


def pack_bundle(bundle: Path, file: Path) -> None:
    """Write the bundle folder as a ``.tar.zst``, the same bytes for the same bundle.

    Raises UsageError if ``file`` is there already, EdgeQCError if it cannot be written; the bundle
    is whole then.
    """
    import zstandard

    require_free_archive(file)
    packed = io.BytesIO()
    # No owner, no time, names in order: nothing but what the bundle is.
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in sorted(bundle.rglob("*")):
            if entry.is_file():
                content = entry.read_bytes()
                member = tarfile.TarInfo(f"{bundle.name}/{entry.relative_to(bundle).as_posix()}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    folder = bundle.absolute()
    write_whole(
        file,
        zstandard.ZstdCompressor(level=10).compress(packed.getvalue()),
        f"The bundle {bundle} is whole. Make room and pack it: tar --zstd -cf {file} "
        f"-C {folder.parent} {folder.name}",
    )
