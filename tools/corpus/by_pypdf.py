"""A second opinion on chunks: pypdf, which complains when it is strict. Runs in a worker."""

from __future__ import annotations

from pathlib import Path

from pypdf import PdfReader
from pypdf.generic import IndirectObject


def pages_of(path: Path) -> int:
    """How many pages a file has whose every object can be read with nothing to complain about.

    Raises:
        ValueError: there is something to complain about.
    """
    with path.open("rb") as file:
        try:
            reader = PdfReader(file, strict=True)
            pages = len(reader.pages)
            for generation, numbers in reader.xref.items():
                for number in numbers:
                    reader.get_object(IndirectObject(number, generation, reader))
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
    return pages
