"""JSON with a digest of itself, so that a changed digit is not read as a measurement.

    {
     "sha256": "…",            of all bytes after this line's comma
     "hash": …
    }
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

HEAD, AFTER = b'{\n "sha256": "', b'",'


def sealed(value: dict[str, Any]) -> bytes:
    """A dictionary in JSON's types as text, without NaN."""
    body = json.dumps(value, indent=1, allow_nan=False).encode().removeprefix(b"{") + b"\n"
    return HEAD + hashlib.sha256(body).hexdigest().encode() + AFTER + body


def opened(data: bytes) -> dict[str, Any]:
    """What was sealed. Raises ValueError if it is not that, to the last byte."""
    digest, found, body = data.removeprefix(HEAD).partition(AFTER)
    if not data.startswith(HEAD) or not found or hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("not sealed, or not as it was sealed")
    value: dict[str, Any] = json.loads(b"{" + body)
    return value
