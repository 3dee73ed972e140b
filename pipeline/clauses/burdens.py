"""What a contract costs: price, penalties, liability, data, secrecy, courts; and words to its reader."""

from __future__ import annotations

from pipeline.clauses.wording import FORCE_MAJEURE, MUTUAL, Clause, Wording
from pipeline.domain import Severity

BURDENS: tuple[Clause, ...] = (
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
            Wording(("in no event|under no circumstances", "=liable|responsible"), FORCE_MAJEURE),
            Wording(
                (
                    (
                        "not be liable|not liable|no liability|not be held liable|not accept any liability|"
                        "disclaims all liability|excludes all liability|no way be liable|"
                        "not be responsible for any loss"
                    ),
                ),
                FORCE_MAJEURE,
            ),
            Wording(
                ("*haftung", "ausgeschlossen|beschränkt|begrenzt|ausschluss|gekürzt"),
                r" gesellschaft mit beschränkter | un(?:be|ein)",
            ),
            Wording(("haftet nicht|haften nicht|keine haftung|übernimmt keine haftung",), FORCE_MAJEURE),
            Wording(("责任", "不承担|不超过|上限"), r"不可抗力"),
        ),
    ),
    Clause(
        "price-escalation",
        Severity.LOW,
        "The price follows an index",
        "The price changes with an index that neither side controls.",
        "Check which index it is, from which month it counts and whether the price can also fall; ask for a cap.",
        (
            Wording(
                (
                    "consumer price|retail price|price index|=index|inflation",
                    "adjust|index|increase|in line with|in proportion",
                    "=fee|=fees|=prices|=rate|=rates|charges|=rent|remuneration",
                ),
                r" (?:not|no|never|without)(?: \w+){0,3} (?:increase|raise|adjust|index)|"
                r" may (?:increase|raise|adjust)|"
                r" (?:regard to|addition to|independent\w*|irrespective)| remain (?:fixed|unchanged)",
            ),
            Wording(
                (
                    "*preisindex|*lebenshaltungsindex|*inflation",
                    "*anpass|*angepasst|*erhöh|*steig|*ändert",
                    "*preis|entgelt|*vergütung|*gebühr|*miete|*mietzins|*pauschale",
                ),
                r" (?:nicht|keine?|ohne) | kann | darf | berechtigt ",
            ),
        ),
    ),
    Clause(
        "price-escalation",
        Severity.MEDIUM,
        "The price may rise during the term",
        "Prices rise by a fixed step or by the other side's decision.",
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
        "penalty",
        Severity.MEDIUM,
        "A penalty is agreed",
        "A fixed sum is owed for a breach or delay, whatever the damage really is.",
        "Ask for a cap, a period of grace, and that the sum counts toward damages.",
        (
            Wording(
                ("penalty|penalties",),
                r" (?:without|no|not as a|not a|free of)(?: \w+){0,4} penalt| perjury| criminal| civil penalt|"
                r" fines? | sanctions? | imposed by ",
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
                MUTUAL + r"| (?:not|no)(?: \w+){0,5} indemnif| mutual",
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
            Wording(("indemnify|hold harmless",), MUTUAL + r"| (?:not|no)(?: \w+){0,5} indemnif| mutual"),
            Wording(
                ("freistell|freizustellen|stellt", "=frei|freistell|freizustellen", "*anspr|*forderung|*schäden"),
                r" nicht | keine freistell|von der arbeit|gegenseitig",
            ),
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
                r" may not | need to know| required by law| not disclose| not include| not apply",
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
