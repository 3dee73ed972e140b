"""What a document's own page is called on disk."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import unicodedata
from functools import lru_cache

# 59 letters of four bytes each, the hash and ".html" stay below the 255 bytes that file systems allow.
_SLUG_CHARACTERS = 59
_HASH_DIGITS = 10


@lru_cache(maxsize=100_000)  # asked for several times in one report
def document_name(path: str) -> str:
    """A readable file name without suffix for the document at ``path``, its own for each path.

    Letters, digits and dashes only, whatever the path holds; the digits at the end tell apart paths that
    read the same, also where the file system does not tell capitals.
    """
    stem = unicodedata.normalize("NFC", posixpath.splitext(posixpath.basename(path))[0])
    slug = re.sub(r"[\W_]+", "-", stem)[:_SLUG_CHARACTERS].strip("-") or "document"
    return f"{slug}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:_HASH_DIGITS]}"
