"""Ed25519 keys: made for whoever releases bundles, and used to sign one."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from edge_qc.errors import UsageError
from edge_qc_export.whole_file import require_utf8

PUBLIC_SUFFIX = ".pub"


def make_key_pair(private: Path) -> Path:
    """Write a new private key (PEM, PKCS 8, readable by its owner alone) and beside it the public
    one, whose path is returned. Raises UsageError if either is there already or cannot be
    written."""
    require_utf8(private, f"private key {private}")
    public = private.with_name(private.name + PUBLIC_SUFFIX)
    for file in (private, public):
        if file.exists() or file.is_symlink():
            raise UsageError(
                f"{file} is there already and is not replaced: bundles signed with a lost key "
                "cannot be signed again. Give another name, or move the old pair away"
            )
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    open_ = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        _write(private, secret, 0o600)
        _write(public, open_, 0o644)
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be written ({error.strerror})") from error
    return public


def read_private_key(file: Path) -> Ed25519PrivateKey:
    """The key that ``make_key_pair`` wrote. Raises UsageError if it is none."""
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise UsageError(
            f"private key {file}: cannot be read ({error.strerror}). Make one with "
            "'edge-qc keygen', or correct the path"
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"private key {file}: is not a PEM without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            f"private key {file}: is a {type(key).__name__}, wanted Ed25519 ('edge-qc keygen')"
        )
    return key


def _write(file: Path, content: bytes, mode: int) -> None:
    # The mode is given when the file is made: no moment in which others could read it.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
