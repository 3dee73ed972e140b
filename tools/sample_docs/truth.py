"""What stands where in ``sample_docs``, for tests that compare an answer with the truth.

Pages count from 1. A fragment is copied word for word; in the PDF it may wrap over several lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownRisk:
    """A risk clause: its page, its category and words that stand on that page and on no other."""

    page: int
    category: str
    fragment: str


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """A file in ``contracts``. ``has_text`` is False for a scan, whose risks can only be seen."""

    file_name: str
    pages: int
    risks: tuple[KnownRisk, ...]
    has_text: bool = True
    encrypted: bool = False


DOCUMENTS = (
    KnownDocument(
        "nda-mutual.pdf",
        3,
        (
            KnownRisk(2, "confidentiality", "shall survive its termination and continue in perpetuity"),
            KnownRisk(2, "penalty", "shall pay to the Discloser a contractual penalty of EUR 75,000"),
            KnownRisk(3, "venue", "submit to the exclusive jurisdiction of the courts of Singapore"),
        ),
    ),
    KnownDocument(
        "services-agreement.pdf",
        12,
        (
            KnownRisk(
                2, "auto-renewal", "this Agreement shall automatically renew for successive terms of three years"
            ),
            KnownRisk(
                4, "price-escalation", "The Supplier may increase the fees and the rates of Schedule 2 at any time"
            ),
            KnownRisk(5, "penalty", "it shall pay liquidated damages of GBP 1,900 for each person and day"),
            KnownRisk(6, "termination", "The Supplier may terminate this Agreement at any time for convenience"),
            KnownRisk(
                7,
                "liability",
                "the liability of the Customer arising out of or in connection with this Agreement shall be unlimited",
            ),
            KnownRisk(8, "indemnity", "The Customer shall indemnify, defend and hold harmless the Supplier"),
            KnownRisk(9, "non-compete", "The Customer shall not engage in any business competing with the Supplier"),
            KnownRisk(
                10,
                "assignment",
                "The Supplier may assign, novate or subcontract this Agreement in whole or in part without the prior"
                " written consent of the Customer",
            ),
            KnownRisk(
                11,
                "data-transfer",
                "may transfer personal data outside the United Kingdom and the European Economic Area",
            ),
        ),
    ),
    KnownDocument(
        "framework-agreement-with-annexes.pdf",
        60,
        (
            KnownRisk(
                5, "auto-renewal", "the agreement shall automatically renew for further periods of four years each"
            ),
            KnownRisk(
                10,
                "liability",
                "the liability of the Customer for damage to the Provider’s equipment shall be unlimited",
            ),
            KnownRisk(
                20,
                "exclusivity",
                "shall purchase storage media and storage systems exclusively from the Provider",
            ),
            KnownRisk(21, "termination", "The Provider may terminate this Service at any time for convenience"),
            KnownRisk(
                33, "price-escalation", "the Provider may increase the prices at any time by up to twelve per cent"
            ),
            KnownRisk(40, "penalty", "the Customer shall pay liquidated damages of GBP 1,750 for each such report"),
            KnownRisk(41, "data-transfer", "may transfer personal data outside the European Economic Area"),
            KnownRisk(
                58, "assignment", "may assign the agreement and all Call-Offs without the consent of the Customer"
            ),
            KnownRisk(60, "venue", "subject to the exclusive jurisdiction of the courts of Singapore"),
        ),
    ),
    KnownDocument(
        "office-lease.pdf",
        5,
        (
            KnownRisk(
                2, "auto-renewal", "this Lease shall automatically renew for successive periods of five years each"
            ),
            KnownRisk(3, "price-escalation", "the Landlord may increase the rent by up to nine per cent in any year"),
            KnownRisk(4, "indemnity", "The Tenant shall indemnify and hold harmless the Landlord against all claims"),
            KnownRisk(4, "assignment", "may assign this Lease and sell the building without the consent of the Tenant"),
            KnownRisk(5, "termination", "The Landlord may terminate this Lease at any time for convenience"),
            KnownRisk(5, "penalty", "it shall pay a penalty of EUR 2,500 for each day of delay"),
        ),
    ),
    KnownDocument(
        "software-licence-saas.pdf",
        5,
        (
            KnownRisk(2, "auto-renewal", "the subscription shall automatically renew for successive terms"),
            KnownRisk(2, "price-escalation", "Cinderquill may increase the fees at any time upon thirty days’ notice"),
            KnownRisk(3, "data-transfer", "Cinderquill may transfer personal data outside the European Economic Area"),
            KnownRisk(3, "termination", "Cinderquill may terminate this Agreement at any time without cause"),
            KnownRisk(4, "liability", "Cinderquill excludes all liability for loss of data, loss of profit"),
            KnownRisk(4, "liability", "The liability of Customer under this Agreement shall be unlimited"),
            KnownRisk(5, "venue", "subject to the exclusive jurisdiction of the courts of Delaware"),
        ),
    ),
    KnownDocument(
        "wartungsvertrag-de.pdf",
        4,
        (
            KnownRisk(2, "price-escalation", "ist berechtigt, die Preise jederzeit einseitig zu erhöhen"),
            KnownRisk(3, "auto-renewal", "Der Vertrag verlängert sich automatisch um jeweils weitere zwei Jahre"),
            KnownRisk(
                3,
                "termination",
                "ist berechtigt, den Vertrag jederzeit ohne Angabe von Gründen mit einer Frist von vier Wochen zu"
                " kündigen",
            ),
            KnownRisk(3, "liability", "Die Auftraggeberin haftet unbeschränkt für sämtliche Schäden"),
            KnownRisk(4, "penalty", "zahlt sie für jeden Fall eine Vertragsstrafe in Höhe von 5.000 Euro"),
            KnownRisk(4, "exclusivity", "ausschließlich von der Auftragnehmerin beziehen"),
            KnownRisk(4, "assignment", "ohne Zustimmung der Auftraggeberin an Dritte abtreten"),
            KnownRisk(
                4, "venue", "Ausschließlicher Gerichtsstand für alle Streitigkeiten aus diesem Vertrag ist Zürich"
            ),
        ),
    ),
    KnownDocument(
        "采购合同-zh.pdf",
        3,
        (
            KnownRisk(2, "price-escalation", "乙方有权根据原材料市场行情单方调整价格"),
            KnownRisk(2, "penalty", "应当按照未付金额的百分之一向乙方支付违约金，且不设上限"),
            KnownRisk(2, "liability", "甲方对因本合同产生的一切损失承担无限责任"),
            KnownRisk(3, "auto-renewal", "本合同自动续展三年，续展次数不限"),
            KnownRisk(3, "termination", "乙方有权随时单方解除本合同，且无须说明理由"),
            KnownRisk(3, "assignment", "未经甲方同意，乙方可以将本合同项下的权利和义务转让给第三方"),
            KnownRisk(3, "venue", "由新加坡法院作为专属管辖法院"),
        ),
    ),
    KnownDocument(
        "supply-agreement-owner-protected.pdf",
        4,
        (
            KnownRisk(1, "exclusivity", "shall purchase all of its requirements of malt exclusively from the Supplier"),
            KnownRisk(1, "price-escalation", "The Supplier may increase the prices in its sole discretion at any time"),
            KnownRisk(2, "penalty", "as a penalty default interest at a rate of 2 per cent per week"),
            KnownRisk(2, "penalty", "the Buyer shall pay liquidated damages of GBP 450"),
            KnownRisk(3, "liability", "liability under this Agreement shall be unlimited"),
            KnownRisk(3, "indemnity", "The Buyer shall indemnify the Supplier against all losses"),
            KnownRisk(3, "non-compete", "the Buyer shall not compete with the Supplier"),
        ),
        encrypted=True,
    ),
    KnownDocument(
        "equipment-rental-scanned.pdf",
        2,
        (
            KnownRisk(1, "auto-renewal", "The hire shall automatically renew for further periods of twelve months"),
            KnownRisk(1, "price-escalation", "The Owner may increase the charges at any time"),
            KnownRisk(2, "liability", "The liability of the Hirer under this Agreement shall be unlimited"),
            KnownRisk(2, "indemnity", "The Hirer shall indemnify and hold harmless the Owner against all claims"),
            KnownRisk(2, "penalty", "the Hirer shall pay a penalty of GBP 950"),
            KnownRisk(2, "termination", "The Owner may terminate this Agreement at any time for convenience"),
            KnownRisk(2, "assignment", "The Owner may assign this Agreement without the consent of the Hirer"),
        ),
        has_text=False,
    ),
)


@dataclass(frozen=True, slots=True)
class KnownPaper:
    """A file of the ``invoices`` or ``reports`` job, with what it says for its job's fields.

    ``has_text`` is False for a scan, of which rules read nothing.
    """

    file_name: str
    pages: int
    fields: Mapping[str, object]
    has_text: bool = True


INVOICES = (
    KnownPaper(
        "hollins-bray-2026-0417.pdf",
        1,
        {
            "sender": "Hollins & Bray Limited",
            "invoice_number": "HB-2026-0417",
            "invoice_date": "2026-03-12",
            "due_date": "2026-04-11",
            "net_amount": 1600,
            "total_amount": 1920,
        },
    ),
    KnownPaper(
        "rechnung-brandt-88213.pdf",
        1,
        {
            "sender": "Brandt Fördertechnik GmbH",
            "invoice_number": "88213",
            "invoice_date": "2026-02-03",
            "due_date": "2026-03-05",
            "net_amount": 1684,
            "total_amount": 2003.96,
        },
    ),
    KnownPaper(
        "corvane-january.pdf",
        2,
        {
            "sender": "CORVANE CLOUD SERVICES INC.",
            "invoice_number": "CCS-20260131-07",
            "invoice_date": "2026-01-31",
            "due_date": "2026-02-14",
            "net_amount": 2100,
            "total_amount": 2100,
        },
    ),
    KnownPaper("tolland-scan.jpg", 1, {"invoice_number": "1187", "total_amount": 1225}, has_text=False),
)

REPORTS = (
    KnownPaper(
        "site-inspection-fellgate.pdf",
        1,
        {
            "report_number": "SI-2026-014",
            "author": "Maren Oldroyd",
            "report_date": "2026-02-18",
            "estimated_cost": 6450,
            "follow_up_needed": True,
            "findings": [
                "two guard rails missing on the upper bench",
                "no edge protection at the tip",
                "one fire extinguisher out of date",
            ],
        },
    ),
    KnownPaper(
        "quarter-1-2026.pdf",
        2,
        {
            "report_number": "QR-2026-1",
            "author": "Finance Department, Gannet Mills Limited",
            "report_date": "2026-04-09",
            "estimated_cost": 85000,
            "follow_up_needed": True,
            "findings": [
                "one customer accounts for 38 per cent of sales",
                "the loan of GBP 900,000 falls due on 30 June 2026 and is not yet refinanced",
                "the energy contract ends in May",
            ],
        },
    ),
    KnownPaper(
        "pruefbericht-rollenbahn.pdf",
        1,
        {
            "report_number": "P-2026-03",
            "author": "Dr. Ilse Zangger",
            "report_date": "2026-03-27",
            "estimated_cost": None,
            "follow_up_needed": False,
            "findings": [],
        },
    ),
)

MADE_WITH = {"reportlab": "5.1.0", "pillow": "13.0.0"}
"""The versions that wrote the committed files; others may write other bytes."""

GOOD_TROUBLE = {
    "good-contract.pdf": 2,
    'it\'s a "quoted" name.pdf': 1,
    "Ünïcödé 合同.PDF": 1,
    "=1+1.pdf": 1,
    "<img src=x onerror=alert(1)>.pdf": 1,
}
"""Pages of the files in ``trouble`` that can be read."""

BAD_TROUBLE = frozenset({"locked.pdf", "truncated.pdf", "empty.pdf", "really-html.pdf"})
"""The files in ``trouble`` that pypdf cannot open; of ``truncated.pdf`` the first of its two pages can be saved."""
