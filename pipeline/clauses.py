"""What the built-in rules look for: clauses of contracts worth a second look, in English, German and Chinese.

Data only; ``rules`` reads it. Raise ``domain.RULES_MODEL`` when an entry changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.domain import Severity


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to say something: words that must all stand in one sentence, in any order.

    ``groups``: of each group one word, the words of a group parted by "|". A word is the beginning of a
    word of the sentence; "=" in front makes it the whole word, "*" in front lets it begin anywhere.
    ``unless``: a regular expression that must not match. Both see the sentence in lower case, with one
    space instead of all that is not a letter or digit, and a space at each end.
    """

    groups: tuple[str, ...]
    unless: str = r"(?!)"


@dataclass(frozen=True, slots=True)
class Clause:
    """A kind of clause and what to say of it. Within a category the first clause that fits counts."""

    category: str
    severity: Severity
    title: str
    explanation: str
    recommendation: str
    wordings: tuple[Wording, ...]


_MUTUAL = (
    r" (?:either|each|neither|both|any) part(?:y|ies) "
    r"| jede[rs]? (?:partei|vertragsp)| beiden? (?:part|vertragsp)"
)
_FORCE_MAJEURE = r" force majeure | höhere[r]? gewalt| beyond (?:its|the|their) (?:reasonable )?control"

CLAUSES: tuple[Clause, ...] = (
    Clause(
        "prompt-injection",
        Severity.HIGH,
        "The document gives instructions to its reader",
        "This sentence speaks to a program that reads the document and tries to change what it reports.",
        "Read the page yourself and ask the sender why the sentence is there.",
        (
            Wording(
                (
                    "=ignore|=disregard|=forget|=override|=bypass",
                    "previous|=prior|=above|preceding|earlier|=all|=any|=your|system",
                    "instructions|=prompt|=prompts|guidelines|directions",
                ),
                r" not (?:to )?(?:ignore|disregard|forget|override|bypass) ",
            ),
            Wording(
                (
                    "you are now|system prompt|as an ai|ai assistant|language model",
                    "=you|=your",
                    "=must|=ignore|=respond|=answer|=report|=now|=approve",
                ),
                r" the (?:supplier|customer|contractor|provider|licensee) ",
            ),
            Wording(
                ("do not report|do not mention|report no|mention no|do not flag", "risk|finding|problem|issue|clause")
            ),
            Wording(
                ("ignoriere|ignorieren sie|vergiss|missachte|missachten sie", "anweisung|instruktion|vorgaben|=prompt")
            ),
            Wording(("忽略|无视|忘记", "指令|指示|提示词")),
        ),
    ),
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
        "liability",
        Severity.HIGH,
        "Liability without a limit",
        "One side answers for damage of any size.",
        "Ask for a cap, for example the yearly fee, and for the exclusion of indirect damage.",
        (
            Wording(
                ("unlimited|without limit|without any limit|=uncapped", "liabilit|=liable"),
                r" (?:no|not|without)(?: \w+){0,3} unlimited ",
            ),
            Wording(
                ("unbeschränkt|unbegrenzt|der höhe nach unbeschränkt", "*haft"),
                r" nicht un|vorsatz|fahrlässig|vorsätzlich",
            ),
            Wording(("无限", "责任"), r"非无限|不承担无限"),
        ),
    ),
    Clause(
        "liability",
        Severity.MEDIUM,
        "Liability is limited or excluded",
        "What can be claimed back after damage is capped, or not owed at all.",
        "Compare the limit with the damage that may really happen; except intent, gross negligence and data loss.",
        (
            Wording(
                ("liabilit", "exceed|limited to|capped|=cap|restricted to"),
                r" limited liability (?:company|partnership)| liability insurance|may exceed|"
                r" not (?:be )?(?:limited|capped)",
            ),
            Wording(("in no event|under no circumstances", "=liable|responsible"), _FORCE_MAJEURE),
            Wording(
                (
                    (
                        "not be liable|not liable|no liability|not be held liable|not accept any liability|"
                        "disclaims all liability|excludes all liability|not be responsible for any loss"
                    ),
                ),
                _FORCE_MAJEURE,
            ),
            Wording(
                ("*haftung", "ausgeschlossen|beschränkt|begrenzt|ausschluss|gekürzt"),
                r" gesellschaft mit beschränkter | un(?:be|ein)",
            ),
            Wording(("haftet nicht|haften nicht|keine haftung|übernimmt keine haftung",), _FORCE_MAJEURE),
            Wording(("责任", "不承担|不超过|上限"), r"不可抗力"),
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
                _MUTUAL + r"| material(?:ly)? breach| insolven| bankrupt| may not (?:terminate|cancel)|"
                r" not be entitled",
            ),
            Wording(
                (
                    "*kündig|beenden",
                    "jederzeit|ohne angabe|ohne grund|fristlos|sofortiger wirkung|ohne einhaltung",
                    "=kann|=darf|berechtigt|behält",
                ),
                _MUTUAL + r"| beiderseit| wichtige[nmr]+ grund| nicht (?:berechtigt|kündbar)",
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
                _MUTUAL,
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
        "price-escalation",
        Severity.MEDIUM,
        "The price may rise during the term",
        "Prices follow an index, a fixed step or the other side's decision.",
        "Ask for a cap per year, notice in advance, and a right to terminate when the price rises.",
        (
            Wording(
                (
                    "increase|escalat|uplift|raise|adjust",
                    "=fee|=fees|price|=rate|=rates|charges|=rent|remuneration",
                    "=may|=shall|=will|=right|entitled|annual|each|every|index|=are",
                ),
                r" (?:not|no|never|without)(?: \w+){0,3} (?:increase|raise|adjust|escalat)| remain (?:fixed|"
                r"unchanged)",
            ),
            Wording(
                (
                    "*preis|entgelt|*vergütung|*gebühr|*miete|*mietzins|*pauschale",
                    "*erhöh|*anpass|*angepasst|*steig|*gleitklausel",
                    "=kann|=darf|berechtigt|jährlich|*index|behält|automatisch|=wird|=werden|jeweils",
                ),
                r" (?:nicht|keine?|ohne)(?: \w+){0,2} (?:erhöh|anpass|angepasst|steiger)| unverändert|"
                r" bleib\w* fest",
            ),
            Wording(("价格|费用|租金|单价", "上涨|上调|调整|提高|递增"), r"不得|不予|不作|不变|固定"),
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
        "data-transfer",
        Severity.HIGH,
        "Data may leave its country or its purpose",
        "Personal or customer data may go to other countries or be used for the other side's own ends.",
        "Ask for a data processing agreement, named countries and sub-processors, and safeguards such as "
        "standard clauses.",
        (
            Wording(
                (
                    "personal data|personal information|customer data|client data|user data|=data",
                    "transfer|process|=store|stored|disclos|access",
                    "third countr|outside|united states|worldwide|any country|abroad|overseas|cross border",
                ),
                r" (?:not|no|never|nor|neither)(?: be)?(?: \w+){0,2} (?:transfer|process|store|disclos|access)",
            ),
            Wording(
                (
                    "personal data|personal information|customer data|client data|user data|=data",
                    "own purposes|own business purposes|=sell|train",
                    "=may|right|entitled",
                ),
                r" may not | not be entitled| no right",
            ),
            Wording(
                (
                    "*daten",
                    "*übermitt|*übertrag|*verarbeit|*gespeichert|*speicher|*zugriff",
                    "drittland|drittländer|drittstaat|außerhalb|=usa|weltweit|ins ausland",
                ),
                r" (?:nicht|keine|weder) (?:\w+ ){0,3}(?:außerhalb|übermitt|drittl|drittst|in)|"
                r" ausschließlich innerhalb",
            ),
            Wording(("数据|个人信息", "出境|境外|跨境"), r"不得|禁止|不会"),
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
                _MUTUAL + r"| no party| (?:not|nor)(?: \w+){0,3} (?:assign|transfer|novate)| may not | shall not ",
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
        "penalty",
        Severity.MEDIUM,
        "A penalty is agreed",
        "A fixed sum is owed for a breach or delay, whatever the damage really is.",
        "Ask for a cap, a period of grace, and that the sum counts toward damages.",
        (
            Wording(
                ("penalty|penalties",),
                r" (?:without|no|not as a|not a|free of)(?: \w+){0,4} penalt| perjury| criminal| civil penalt",
            ),
            Wording(
                ("liquidated damages|late payment fee|late fee|default interest",),
                r" (?:without|no)(?: \w+){0,2} (?:liquidated|late|default)",
            ),
            Wording(
                ("*vertragsstrafe|pönale|*strafzahlung|*verzugsstrafe|pauschalierter schadensersatz",),
                r" (?:keine|ohne|nicht) (?:\w+ ){0,2}(?:vertragsstrafe|pönale|strafzahlung)",
            ),
            Wording(("违约金|罚款|滞纳金",), r"(?:无需|不|免于)(?:支付|承担)"),
        ),
    ),
    Clause(
        "indemnity",
        Severity.HIGH,
        "One side answers for every claim",
        "All claims of others are to be borne, whoever caused them.",
        "Limit it to own breaches, ask for a cap and for control of the defence.",
        (
            Wording(
                (
                    "indemnif|indemnity|hold harmless",
                    "any and all|all claims|regardless|whether or not|from all|from any",
                ),
                _MUTUAL + r"| (?:not|no)(?: \w+){0,5} indemnif| mutual",
            ),
            Wording(
                (
                    "freistell|freizustellen|stellt",
                    "=frei|freistell|freizustellen",
                    "sämtlich|allen ansprüchen|jegliche|allen forderungen",
                ),
                r" nicht | keine freistell|von der arbeit|gegenseitig",
            ),
            Wording(("赔偿", "一切|全部|所有", "损失|索赔"), r"无需|不承担"),
        ),
    ),
    Clause(
        "indemnity",
        Severity.MEDIUM,
        "Claims of others must be borne",
        "One side keeps the other free of certain claims.",
        "Limit it to own breaches, ask for a cap and for control of the defence.",
        (
            Wording(("indemnify|hold harmless",), _MUTUAL + r"| (?:not|no)(?: \w+){0,5} indemnif| mutual"),
            Wording(
                ("freistell|freizustellen|stellt", "=frei|freistell|freizustellen", "*anspr|*forderung|*schäden"),
                r" nicht | keine freistell|von der arbeit|gegenseitig",
            ),
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
                r" not (?:be )?(?:prevent|restrict|prohibit)| free to compete| competing suppl",
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
    Clause(
        "confidentiality",
        Severity.MEDIUM,
        "Secrecy without an end, or with a hole in it",
        "The duty of confidence never ends, or the other side may pass confidential information on.",
        "Ask for a term of three to five years and name the people who may see the information.",
        (
            Wording(
                (
                    "confidential|secrecy|non disclosure",
                    "perpetu|indefinite|unlimited period|without limit|unlimited in time|forever",
                )
            ),
            Wording(
                (
                    "confidential",
                    "may disclose|may share|free to disclose",
                    "third part|any person|affiliates|its discretion",
                ),
                r" may not | need to know| required by law| not disclose",
            ),
            Wording(
                (
                    "vertraulich|*geheimhaltung|verschwiegenheit",
                    "unbefristet|unbegrenzt|auf dauer|dauerhaft|ohne zeitliche",
                )
            ),
            Wording(("保密", "永久|无限期|长期有效")),
        ),
    ),
    Clause(
        "venue",
        Severity.LOW,
        "Disputes go to a fixed place",
        "A court or an arbitral tribunal is agreed, perhaps far away.",
        "Check what a suit there would cost; ask for the courts of your own seat.",
        (
            Wording(
                ("jurisdiction|=venue|courts", "exclusive|submit|=sole|shall have|shall lie|shall be|sitting in"),
                r" non exclusive| any jurisdiction| order of",
            ),
            Wording(
                ("arbitration|arbitral|arbitrator", "binding|finally|exclusively|=seat|=rules|settled by|resolved by")
            ),
            Wording(("jury|class action", "waive"), r" not (?:be deemed to )?waive"),
            Wording(("*gerichtsstand|schiedsgericht|schiedsverfahren|ausschließlich zuständig",)),
            Wording(("仲裁|管辖|诉讼", "委员会|法院")),
        ),
    ),
)
