"""The contracts of the ``contracts`` job: which text becomes which file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.sample_docs import scan, typeset
from tools.sample_docs.markup import parse
from tools.sample_docs.typeset import CHINESE, GERMAN, SANS, SERIF, SERIF_DENSE, Look, Protection

_TEXTS = Path(__file__).parent / "texts"


@dataclass(frozen=True, slots=True)
class Contract:
    """One file: its name, the text under ``texts`` that it is made of, and how it looks.

    ``look`` is None for a scan. ``title`` and ``reference`` stand at the head of every page.
    """

    file_name: str
    text: str
    look: Look | None
    title: str
    reference: str
    protection: Protection | None = None


CONTRACTS = (
    Contract("nda-mutual.pdf", "nda-mutual", SERIF_DENSE, "Mutual Non-Disclosure Agreement", "HO/MA-2025-03"),
    Contract("services-agreement.pdf", "services-agreement", SERIF, "Master Services Agreement", "MSA-2025-0092"),
    Contract(
        "framework-agreement-with-annexes.pdf", "framework-agreement", SERIF, "Framework Agreement", "FA-2024-1107"
    ),
    Contract("office-lease.pdf", "office-lease", SERIF, "Lease: Lanternhouse, Third Floor", "LH-3F-2024"),
    Contract("software-licence-saas.pdf", "software-licence-saas", SANS, "Cinderquill Subscription Terms", "CQ-48815"),
    Contract("wartungsvertrag-de.pdf", "wartungsvertrag-de", GERMAN, "Wartungsvertrag", "W-2025-0316"),
    Contract("采购合同-zh.pdf", "purchase-contract-zh", CHINESE, "设备采购合同", "CG-2025-0728"),
    Contract(
        "supply-agreement-owner-protected.pdf", "supply-agreement", SERIF, "Supply Agreement", "GM/DB-2025",
        Protection(user="", owner="maltings"),
    ),
    Contract("equipment-rental-scanned.pdf", "equipment-rental", None, "Equipment Rental Agreement", "ER-1187"),
)  # fmt: skip


def text_of(name: str) -> str:
    """The words of one contract, in the markup of ``markup``."""
    return (_TEXTS / f"{name}.txt").read_text(encoding="utf-8")


def pdf_of(contract: Contract) -> bytes:
    """The file's bytes, the same every time."""
    blocks = parse(text_of(contract.text))
    if contract.look is None:
        return typeset.images_pdf(scan.page_jpegs(blocks), contract.title)
    return typeset.contract_pdf(blocks, contract.look, contract.title, contract.reference, contract.protection)
