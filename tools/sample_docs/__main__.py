"""``python -m tools.sample_docs [FOLDER]``: write the sample documents, by default into ``sample_docs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tools.sample_docs import papers, trouble
from tools.sample_docs.contracts import CONTRACTS, pdf_of

_DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "sample_docs"


def main() -> None:
    # reportlab dates its files by this variable wherever a build environment sets it
    os.environ.pop("SOURCE_DATE_EPOCH", None)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _DEFAULT_FOLDER
    _write(folder / "contracts", {contract.file_name: pdf_of(contract) for contract in CONTRACTS})
    _write(folder / "trouble", trouble.files())
    _write(folder / "invoices", papers.invoices())
    _write(folder / "reports", papers.reports())


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    print(f"{folder}: {len(files)} files, {sum(map(len, files.values()))} bytes")


if __name__ == "__main__":
    main()
