"""The one store of finished cells that all runs share: a file per cell, named by the hash of the cell's content.

    cells/<hash>.json               the record of a finished cell, or why it failed
    checkpoints/<hash>.safetensors  the parameters of a trained network
    jobs/<hash>.json                a cell described to the process that makes it, and its progress

Every file is written whole or not at all: a temporary file beside it, fsync, rename. A killed process leaves at most a
temporary file, which nothing reads.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..api.component import UserError
from ..engine.machine import sweep, write_atomically
from .sealed import opened, sealed

HASH = re.compile("[0-9a-f]{16}")
"""The name of a cell."""
LEAST_FREE = 1 << 20
"""Bytes that a cell needs at least: a record is some hundred kilobytes."""
Status = Literal["done", "failed", "missing"]
Tensors = dict[str, npt.NDArray[Any]]


def plain(value: Any, *, finite: bool = False) -> Any:
    """The value in JSON's types: numpy numbers and tuples become numbers and lists, floats keep every bit.

    NaN and infinity mean "not measured" and become None; with `finite` they raise ValueError. Raises TypeError for
    other types, and for keys that are not text (1 and "1" would be one key).
    """
    if value is None or isinstance(value, str | bool | np.bool_):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            if finite:
                raise ValueError(f"{value} cannot be part of a cell's content")
            return None
        return float(value)
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), finite=finite)
    if isinstance(value, list | tuple):
        return [plain(item, finite=finite) for item in value]
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"keys must be text, not {wrong[0]!r}")
        return {key: plain(item, finite=finite) for key, item in value.items()}
    raise TypeError(f"{type(value).__name__} cannot be stored: {value!r}")


def content_hash(content: Mapping[str, Any]) -> str:
    """The name of a cell: 16 hexadecimal digits of the sha256 of its canonical JSON (sorted keys, floats by repr)."""
    text = json.dumps(plain(content, finite=True), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pack_tokens(tokens: npt.NDArray[np.integer[Any]]) -> dict[str, Any]:
    """(N, L) token ids as compressed text, for JSON."""
    data = zlib.compress(np.ascontiguousarray(tokens, dtype="<i4").tobytes(), 9)
    return {"shape": list(tokens.shape), "int32": base64.b64encode(data).decode()}


def unpack_tokens(packed: Mapping[str, Any]) -> npt.NDArray[np.integer[Any]]:
    """(N, L) the token ids that `pack_tokens` packed."""
    data = zlib.decompress(base64.b64decode(packed["int32"]))
    return np.frombuffer(data, dtype="<i4").reshape(packed["shape"])


class Store:
    """The cells and checkpoints under one folder. Safe for many processes: the last whole write stands."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.set_aside: list[Path] = []
        """Files that were found damaged and renamed."""

    def cell_path(self, hash: str) -> Path:
        return self.path / "cells" / f"{hash}.json"

    def checkpoint_path(self, hash: str) -> Path:
        return self.path / "checkpoints" / f"{hash}.safetensors"

    def job_path(self, hash: str) -> Path:
        return self.path / "jobs" / f"{hash}.json"

    def progress_path(self, hash: str) -> Path:
        return self.path / "jobs" / f"{hash}-progress.json"

    def version(self, hash: str) -> int | None:
        """A number that changes whenever the cell's file is written, None while there is none."""
        try:
            found = self.cell_path(hash).stat()
        except OSError:
            return None
        return found.st_ino ^ found.st_mtime_ns

    def ensure_room(self) -> None:
        """Raise OSError if the disk is full, before the work of a cell that could not be stored."""
        nearest = next(path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists())
        if shutil.disk_usage(nearest).free < LEAST_FREE:
            raise OSError(errno.ENOSPC, "no room for a cell")

    def ensure_writable(self) -> None:
        """Make the folders and try to write; raises `UserError` if that cannot be done."""
        try:
            for folder in (self.path / "cells", self.path / "checkpoints"):
                write_atomically(folder / ".writable", b"").unlink(missing_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"cannot write the store '{self.path}': {reason}; name another: --store DIR") from None

    def status(self, hash: str) -> Status:
        stored = self._stored(hash)
        return "missing" if stored is None else stored["status"]

    def read(self, hash: str) -> dict[str, Any] | None:
        """The record of a finished cell, or None for one that is missing or failed."""
        stored = self._stored(hash)
        return stored["record"] if stored is not None and stored["status"] == "done" else None

    def failure(self, hash: str) -> str | None:
        """Why the cell failed, or None if it did not."""
        stored = self._stored(hash)
        return stored["message"] if stored is not None and stored["status"] == "failed" else None

    def write(self, hash: str, record: Mapping[str, Any]) -> None:
        """Store a finished cell. If the record carries its `content`, that must hash to the cell's name."""
        if "content" in record and content_hash(record["content"]) != hash:
            raise ValueError(f"the content of cell {hash} hashes to {content_hash(record['content'])}")
        self._write(hash, {"hash": hash, "status": "done", "record": record})

    def write_failure(self, hash: str, message: str, *, again: bool = False) -> None:
        """Store why a cell failed. A finished cell stays finished: its content is the same.

        `again`: the next run tries it again, since the machine was at fault.
        """
        if self.status(hash) != "done":
            self._write(hash, {"hash": hash, "status": "failed", "message": message, "again": again})

    def to_try_again(self, hash: str) -> bool:
        """Whether the cell failed for a reason that may have passed."""
        stored = self._stored(hash)
        return stored is not None and stored["status"] == "failed" and bool(stored.get("again"))

    def save_checkpoint(self, hash: str, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, Any]) -> None:
        """Store named arrays (any shape) and metadata in JSON's types."""
        from safetensors.numpy import save

        # safetensors writes the memory as it lies, so a transposed array must be laid out first
        whole = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        text = json.dumps(plain(metadata), sort_keys=True)
        header = {"hash": hash, "metadata": text, "sha256": _digest(whole, text)}
        write_atomically(self.checkpoint_path(hash), save(whole, metadata=header))

    def load_checkpoint(self, hash: str) -> tuple[Tensors, dict[str, Any]] | None:
        """The arrays and the metadata, bit for bit, or None. A damaged file is set aside and counts as absent."""
        from safetensors import SafetensorError, safe_open

        path = self.checkpoint_path(hash)
        if not os.path.lexists(path):
            return None
        if path.is_dir() or not path.exists():  # a folder in its place, or a link to nothing
            self._set_aside(path)
            return None
        try:
            with safe_open(path, framework="np") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            whole = header["hash"] == hash and header["sha256"] == _digest(tensors, header["metadata"])
            metadata = json.loads(header["metadata"])
        except (SafetensorError, KeyError, ValueError):
            whole = False
        if not whole:
            self._set_aside(path)
            return None
        return tensors, metadata

    def intact(self, hash: str) -> bool:
        """Whether there is a checkpoint, and it is as it was written."""
        return self.load_checkpoint(hash) is not None

    def sweep(self) -> None:
        """Remove what processes of this machine left when they were killed while they wrote."""
        for folder in ("cells", "checkpoints", "jobs"):
            sweep(self.path / folder)

    def _write(self, hash: str, stored: dict[str, Any]) -> None:
        write_atomically(self.cell_path(hash), sealed(plain(stored)))

    def _stored(self, hash: str) -> dict[str, Any] | None:
        path = self.cell_path(hash)
        try:
            stored = opened(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:  # what cannot be read just now may be sound: only a folder or a loop of links is not
            if error.errno in (errno.EACCES, errno.EPERM):
                raise UserError(
                    f"cannot read {path}: {error.strerror}; make it readable, or name another store: --store DIR"
                ) from None
            if error.errno not in (errno.EISDIR, errno.ELOOP):
                raise
            stored = {}
        except (ValueError, RecursionError):
            stored = {}
        if not _belongs(stored, hash):
            self._set_aside(path)
            return None
        return stored

    def _set_aside(self, path: Path) -> None:
        """Rename a damaged file, so that nothing reads it and a user can still inspect it."""
        with contextlib.suppress(OSError):  # a store that cannot be written is still read as if the file were absent
            path.replace(path.with_name(path.name + ".damaged"))
            self.set_aside.append(path)


def _belongs(stored: Mapping[str, Any], hash: str) -> bool:
    if stored.get("hash") != hash:
        return False
    if stored.get("status") == "failed":
        return isinstance(stored.get("message"), str)
    record = stored.get("record")
    if stored.get("status") != "done" or not isinstance(record, dict):
        return False
    content = record.get("content")
    return "content" not in record or (isinstance(content, dict) and content_hash(content) == hash)


def _digest(tensors: Mapping[str, npt.NDArray[Any]], metadata: str) -> str:
    total = hashlib.sha256(metadata.encode())
    for name in sorted(tensors):
        array = tensors[name]
        total.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        total.update(array.tobytes())
    return total.hexdigest()
