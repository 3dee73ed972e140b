"""How long and how firmly a contract binds: renewal, its end, one partner only, competition, assignment."""

from __future__ import annotations

from pipeline.clauses.wording import MUTUAL, Clause, Wording
from pipeline.domain import Severity

BINDING: tuple[Clause, ...] = (
    Clause(
        "auto-renewal",
        Severity.MEDIUM,
        "The contract renews itself",
        "The term goes on by itself when nobody gives notice in time.",
        "Enter the last day for notice in the calendar, or ask for renewal by written agreement only.",
        (
            Wording(
                ("automatic|successive|evergreen", "renew|extend|prolong"),
                r" (?:not|no|without|never)(?: be)? automatic| not (?:be )?(?:renew|extend)\w* automatic",
            ),
            Wording(
                ("automatisch|stillschweigend|jeweils um|jeweils für", "*verlänger"),
                r" (?:nicht|keine|ohne) (?:automatisch|stillschweigend)",
            ),
            Wording(("自动", "续|延长|展期"), r"不(?:会|得|再)?自动"),
        ),
    ),
    Clause(
        "termination",
        Severity.HIGH,
        "One side may end the contract at will",
        "The contract can be ended without a reason or at once, and the other side is not given the same right.",
        "Ask for the same right, a period of notice, and payment of work already done.",
        (
            Wording(
                (
                    "terminate|cancel",
                    (
                        "at any time|without cause|for convenience|for any reason|sole discretion|without notice|"
                        "without prior notice|without giving|immediate effect"
                    ),
                    "=may|reserves|entitled|=right",
                ),
                MUTUAL + r"| material(?:ly)? breach| insolven| bankrupt| may not (?:terminate|cancel)|"
                r" not be entitled",
            ),
            Wording(
                (
                    "*kündig|beenden",
                    "jederzeit|ohne angabe|ohne grund|fristlos|sofortiger wirkung|ohne einhaltung",
                    "=kann|=darf|berechtigt|behält",
                ),
                MUTUAL + r"| beiderseit| wichtige[nmr]+ grund| nicht (?:berechtigt|kündbar)",
            ),
            Wording(("随时|单方", "解除|终止", "可|有权"), r"双方|任何一方|无权|不得"),
        ),
    ),
    Clause(
        "termination",
        Severity.MEDIUM,
        "The contract cannot be left before its end",
        "The right to end the contract early is excluded, or costs money.",
        "Ask for a right to terminate with notice, at least for good cause.",
        (
            Wording(
                (
                    (
                        "may not terminate|may not cancel|no right to terminate|not be entitled to terminate|"
                        "not entitled to terminate|irrevocabl|non cancel|noncancel"
                    ),
                    "terminat|cancel|=term|order|subscription",
                ),
                MUTUAL,
            ),
            Wording(
                ("early termination fee|early termination charge|termination fee|cancellation fee",),
                r" (?:no|without|any) (?:\w+ ){0,2}(?:termination|cancellation) fee",
            ),
            Wording(
                ("ordentliche kündigung|recht zur kündigung|kündigungsrecht", "ausgeschlossen|unkündbar"),
                r" nicht ausgeschlossen",
            ),
        ),
    ),
    Clause(
        "exclusivity",
        Severity.MEDIUM,
        "Bound to one partner",
        "One side must buy from, sell to or work with the other alone.",
        "Limit it in time, area and quantity, and let it end when the other side does not deliver.",
        (
            Wording(
                ("exclusively|solely|only", "=from", "purchase|=buy|source|obtain|procure|=order"),
                r" exclusive of | jurisdiction| courts| governed| liabilit| (?:not|non) exclusiv|"
                r" only from the date",
            ),
            Wording(
                (
                    (
                        "exclusivity|exclusive supplier|exclusive provider|exclusive distributor|exclusive partner|"
                        "exclusive basis|exclusive dealing|exclusive agent|sole supplier|sole provider|"
                        "sole distributor|exclusive right to"
                    ),
                ),
                r" (?:no|not|non|without)(?: \w+){0,3} (?:exclusiv|sole)| jurisdiction",
            ),
            Wording(
                ("not purchase|not engage|not buy|not procure|not obtain", "any other|third part|competing supplier"),
                r" need not ",
            ),
            Wording(
                ("ausschließlich", "bezieh|beziehen|*bezug|kauf|abzunehmen|beauftrag|erwerb"),
                r" gerichtsstand| nicht ausschließlich| zuständig| bezug auf| in bezug",
            ),
            Wording(
                ("exklusiv|exklusivität|alleinvertrieb|ausschließlichkeit|alleinbezug",),
                r" (?:nicht|keine?|ohne|kein recht auf) (?:exklusiv|ausschließlichkeit|alleinvertrieb)",
            ),
            Wording(("独家|排他",), r"非独家|非排他|不具排他"),
        ),
    ),
    Clause(
        "assignment",
        Severity.MEDIUM,
        "The contract may go to a stranger",
        "The other side may hand the contract on without asking.",
        "Ask that an assignment needs written consent, or at least a right to terminate when it happens.",
        (
            Wording(
                (
                    "assign|transfer this|transfer the agreement|novate",
                    "without|freely|sole discretion",
                    "consent|approval|notice|permission|freely|sole discretion",
                    "=may|right|entitled|=free",
                ),
                MUTUAL + r"| no party| (?:not|nor)(?: \w+){0,3} (?:assign|transfer|novate)| may not | shall not ",
            ),
            Wording(
                (
                    "abtret|abzutreten|*übertrag",
                    "ohne",
                    "*zustimmung|einwilligung|genehmigung",
                    "=darf|=kann|berechtigt|=recht",
                ),
                r" (?:nicht|keine?r?|weder|nur) ",
            ),
            Wording(("转让", "无需|不经|未经|不需", "同意"), r"不得|无权|不能"),
        ),
    ),
    Clause(
        "non-compete",
        Severity.HIGH,
        "No competing business",
        "One side must not work for competitors, sell competing goods or hire the other's people.",
        "Limit it in time, area and subject; check that it is lawful and paid where the law asks for that.",
        (
            Wording(("non compet|noncompet",), r" (?:no|not|without)(?: \w+){0,3} non ?compet| non competitive"),
            Wording(
                (
                    "=compete|competes|competing|competitor|competitors|competitive business",
                    (
                        "shall not|will not|may not|must not|agrees not|undertakes not|not to compete|refrain|"
                        "not directly or indirectly"
                    ),
                ),
                r" not (?:be )?(?:prevent|restrict|prohibit)| free to compete|"
                r" competing (?:suppl|product|service)",
            ),
            Wording(
                (
                    "solicit|=hire|entice",
                    "employee|staff|personnel|subcontractor|customers",
                    "shall not|will not|may not|must not|agrees not|to not|refrain",
                ),
                r" not (?:be )?(?:prevent|restrict|prohibit)",
            ),
            Wording(
                ("*wettbewerbsverbot|*konkurrenzverbot|konkurrenzklausel",),
                r" kein(?:em|en)? (?:\w+ )?(?:wettbewerbs|konkurrenz)",
            ),
            Wording(
                ("wettbewerb|konkurrenz", "unterlassen|enthalten|untersagt|zu unterlassen|nicht tätig"),
                r" unlauter| nicht untersagt",
            ),
            Wording(("竞业|同业竞争|竞争", "不得|禁止|限制"), r"不正当竞争"),
        ),
    ),
)
