r"""The phrases that speak to a program which reads a document, in several languages: data alone.

White space in a pattern is for the eye. Letters and digits are looked for and a sentence's end, which is ``\.``;
what is between them in a text does not count. Every repetition has an end.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrase:
    """A row of the table.

    ``signs``, parted by spaces: without one of these in the text the phrase is not there, which is told at once.
    ``is_command``: it counts only where it is a command to the reader. ``unless_after``: not with this behind it,
    which makes it one of daily life.
    """

    signs: str
    pattern: str
    is_command: bool = False
    unless_after: str | None = None


_AI = (
    "(?:ai|artificialintelligence|llms?|(?:large)?languagemodels?|chatgpt|gpt[345]?|claude|gemini|copilot|chatbots?)"
    "(?:(?:based|powered|language|legal|contract|document|review|reading)?"
    "(?:assistant|model|agent|reviewer|reader|system|tool|bot|program|summari[sz]er|analyst)s?)?"
)
_CHINESE_AI = "(?:ai|人工智能|大?语言模型|大模型|智能助手|聊天机器人|llm)"
_THIS = "(?:this|the(?:attached|present|above|following)?|these)"
_PAPER = "(?:document|contract|agreement|file|pdf|text|page|paper|clause|section|offer|invoice|application|lease)s?"
_PAPER_AS = (
    "documentas contractas agreementas fileas pdfas textas pageas paperas clauseas sectionas offeras invoiceas "
    "applicationas leaseas documentsas contractsas agreementsas filesas clausesas sectionsas"
)
_GOOD = (
    "(?:being|of|having|carrying|posing|at|an?|very){0,3}"
    "(?:low|no|zero|minimal|negligible|acceptable|riskfree|safe|harmless|unobjectionable|favou?rable|"
    "excellent|compliant|approved)"
)
_DAILY = (
    "(?:to(?:the|our|any)|(?:(?:that|which)(?:were|was|are)?)?"
    "(?:given|issued|sent|received|made|provided|notified|agreed)(?:to|by|in|under|from)(?!you)|"
    "from(?:the|our|any|its|his|her|a)|by(?:the|our|any|its)|ofthe|inrespect|under|"
    "(?:regarding|concerning|relatingto|about|asto|withregardto)(?!this|risk|how))"
)

PHRASES: tuple[Phrase, ...] = (
    # Orders to forget the orders.
    Phrase(
        "ignore disregard forget override bypass",
        "(?:ignore|disregard|forget|override|bypass) (?:all|any|every|each|of|the|your|my|these|those|other|and|or)"
        "{0,4} (?:previous(?:ly)?|prior|above|preceding|earlier|foregoing|existing|original|initial|system|former)"
        "(?:and|or|the|all|given|previous|prior|above|earlier|system|safety|user|developer|other|mentioned){0,4}"
        "(?:instruction|prompt|guideline|direction|directive|rule|command|programming|constraint)s?",
        is_command=True,
        unless_after=_DAILY,
    ),
    Phrase(
        "systemprompt initialprompt safetyprompt guidelines",
        "(?:ignore|disregard|forget|override|bypass|overwrite) (?:all|any|the|your|of){0,3} (?:system|initial|safety)"
        "(?:prompts?|guidelines)",
        is_command=True,
    ),
    Phrase(
        "ignore disregard forget override",
        "(?:ignore|disregard|forget|override) (?:all|any|of|what|everything){0,3} your"
        "(?:instructions|programming|training|guidelines|rules)",
        is_command=True,
    ),
    Phrase(
        "ignore disregard forget",
        "(?:ignore|disregard|forget) (?:everything|anything|all|what) (?:that)?"
        "(?:you (?:were|have (?:been)?|ve) (?:told|instructed|asked)|(?:was)? said (?:before|above))",
        is_command=True,
    ),
    Phrase(
        "systemprompt hiddenprompt initialprompt systeminstruction hiddeninstruction initialinstruction",
        "(?:reveal|print|output|repeat|show|disclose|leak) (?:me)? (?:all|your|the){0,2} (?:system|hidden|initial)"
        "(?:prompt|instructions)",
        is_command=True,
    ),
    Phrase("nolongerbound", "you are no longer bound by (?:your|previous|prior|openai|anthropic)"),
    # Names for the reader.
    Phrase("youare youre", f"(?:if|as|since|because|whereas|assume|pretend) you (?:a)? re (?:an?|the)? {_AI}"),
    Phrase(
        "youare",
        "you are (?:now|henceforth|from now on)? (?:an?|the)? (?:helpful|unrestricted|unbiased|uncensored|expert){0,2}"
        "(?:ai (?:assistant|model|system|agent|reviewer|\\.)|llm|language model|chatbot|chatgpt|claude|gpt|"
        "assistant with (?:no|out)|dan mode|in (?:developer|debug|admin|dan) mode)",
    ),
    Phrase(
        "attention note notice message instruction important warning hello dear hey hint",
        "(?:attention|note|notice|message|instructions?|important|warning|hello|dear|hey|hint) (?:to|for)?"
        f"(?:all|any|the|every){{0,2}} {_AI} (?:reading|processing|reviewing|analy[sz]ing|\\.)",
    ),
    Phrase(
        "ingthis readsthis readthis",
        f"{_AI} (?:that|which|who)? (?:is|are)? (?:reading|reads?|processing|reviewing|summari[sz]ing|analy[sz]ing|"
        f"parsing|evaluating) this {_PAPER}",
    ),
    Phrase(
        "asanai asai asanllm asalargelanguage asalanguage asachatbot",
        f"as (?:an?)? {_AI} you (?:must|should|shall|will|are|have|need)",
    ),
    Phrase(
        "must should shall will instructed required told asked",
        f"{_AI} (?:must|should|shall|will|(?:is|are) (?:instructed|required|told|asked) to)"
        "(?:not|only|always|never)?"
        "(?:rate|classify|report|flag|mention|summari[sz]e|approve|treat|ignore|score|recommend|describe)"
        f"(?:any|all|that|on)? (?:risks? in)? {_THIS} {_PAPER}",
    ),
    # Orders about the result.
    Phrase(
        "donot dont never",
        "(?:do not|dont|never) (?:ever|under any circumstances)? (?:report|mention|flag|reveal|list|highlight|"
        "warn about|point out|raise|summari[sz]e) (?:this|these|the following|the above|the next)"
        "(?:clause|section|risk|paragraph|provision|text|instruction|finding|sentence|term|page|issue)s?",
        is_command=True,
    ),
    Phrase(
        "donot dont never",
        "(?:do not|dont|never) (?:report|mention|flag|reveal|list|highlight|raise|include) (?:any|the|these|this)?"
        "(?:clause|risk|issue|finding|problem|concern|red flag)s? (?:to the user|(?:in|as part of|within) (?:your|the)"
        "(?:final)? (?:summary|report|review|analysis|answer|response|output))",
        is_command=True,
    ),
    Phrase(
        _PAPER_AS,
        "(?:rate|classify|score|mark|assess|treat|rank|label|evaluate|categori[sz]e|grade|report)"
        f"{_THIS} {_PAPER} as {_GOOD}",
        is_command=True,
    ),
    Phrase(
        "norisk noissue noproblem nofinding noconcern",
        f"(?:say|state|report|conclude|respond|output|answer|confirm|write) (?:only)? (?:that)? (?:there are|{_THIS}"
        f"{_PAPER} (?:contains?|has|have|poses?|presents?)) no (?:risk|issue|problem|finding|concern)s?",
        is_command=True,
    ),
    Phrase(
        "norisk zerorisk nofinding zerofinding noredflag zeroredflag",
        "(?:report|list|return|output|find) (?:no|zero) (?:risk|finding|red flag)s? (?:for|in|about|on)"
        f"{_THIS} {_PAPER}",
        is_command=True,
    ),
    Phrase(
        "respondonly replyonly answeronly outputonly returnonly printonly sayonly",
        "(?:respond|reply|answer|output|return|print|say) only (?:with)? (?:the|a)?"
        "(?:(?:word|phrase|sentence|string)s?|(?:valid|empty)? json|no risks?|approved|low)",
        is_command=True,
    ),
    Phrase(
        "fromnowon",
        "from now on (?:you)? (?:will|must|should|shall)?"
        "(?:act as|respond|only respond|ignore|pretend|answer) (?:an?|only|all)",
        is_command=True,
    ),
    Phrase(
        "unrestricted unfiltered jailbroken asdan likedan",
        "(?:act|behave|pretend) (?:as|like|to be) (?:if you were)? (?:an?)? (?:unrestricted|unfiltered|jailbroken|dan)"
        "(?:ai|assistant|model|llm|mode)",
        is_command=True,
    ),
    Phrase("yournew", "your new (?:system)? (?:instructions?|prompt|directives?) (?:is|are|\\.)"),
    # German.
    Phrase(
        "ignoriere vergiss vergess missachte verwirf übergehe überschreibe",
        "(?:ignorieren?|vergiss|vergessen?|missachten?|verwirf|übergehen?|überschreiben?) (?:sie)?"
        "(?:bitte|alle|sämtliche|jegliche|die|deine|ihre|oder|und){0,4}"
        "(?:vorherige|vorangegangene|vorangehende|bisherige|obige|frühere|vorige|vorstehende|bestehende)[nmr]?"
        "(?:system)? (?:anweisung|instruktion|vorgabe|befehl|regel|prompt|aufforderung|richtlinie)(?:en|n|e|s)?",
        is_command=True,
        unless_after="(?:de[rs]|von|vom|aus|zu[rm]?(?!diesem)|betreffend|hinsichtlich|bezüglich)",
    ),
    Phrase(
        "systemprompt systemanweisung",
        "(?:ignorieren?|vergiss|missachten?) (?:sie)? (?:alle|den|die|deinen?|ihren?){0,2} system(?:prompt|anweisung)",
        is_command=True,
    ),
    Phrase(
        "wenn falls sofern",
        "(?:wenn|falls|sofern) (?:du|sie) (?:eine?)? (?:ki|llm|sprachmodell|künstlicheintelligenz|chatbot)"
        "(?:assistent|system|modell|sprachmodell|agent)? (?:bist|sind)",
    ),
    Phrase(
        "dubist siesind",
        "(?:du bist|sie sind) (?:jetzt|nun|ab jetzt|ab sofort)? (?:eine?|der|die)? (?:hilfreiche[rs]?)?"
        "(?:ki (?:assistent|modell|system|\\.)|sprachmodell|künstlicheintelligenz|chatbot|llm)",
    ),
    Phrase(
        "alski alseineki alsein alssprachmodell alsllm",
        "als (?:eine?)? (?:ki (?:assistent|modell|sprachmodell|system|agent)?|sprachmodell|llm)"
        "(?:musst|sollst|darfst|müssen|sollen|dürfen) (?:du|sie)",
    ),
    Phrase(
        "ki. assistenten. modell agenten. leser. prüfer. systeme. llm",
        "(?:hinweis|anweisung|achtung|nachricht|mitteilung|wichtig) (?:an|für)? (?:alle|jede|das|die|den)?"
        "(?:ki (?:assistenten|modelle?|systeme?|agenten|leser|prüfer)?|sprachmodelle?|llms?) \\.",
    ),
    Phrase(
        "erwähne melde nenne berichte berücksichtige",
        "(?:erwähnen?|melden?|nennen?|berichten?|berücksichtigen?) (?:sie)? (?:bitte)? (?:diese[nrs]?|die folgenden?)"
        "(?:klausel|abschnitt|absatz|risiko|risiken|ziffer|satz|regelung|punkt) (?:bitte|in deinem bericht|im bericht)?"
        "(?:nicht|keinesfalls)",
        is_command=True,
    ),
    Phrase(
        "bewerte stufe klassifiziere markiere behandle",
        "(?:bewerten?|stufen?|klassifizieren?|markieren?|behandeln?) (?:sie)? (?:bitte)? diese[ns]?"
        "(?:vertrag|vereinbarung|dokument|klausel|datei|text) (?:bitte)? (?:als|mit)"
        "(?:ein)? (?:geringe[sm]?|niedrige[sm]?|kein|unbedenklich|risikoarm|risikofrei|harmlos|sicher)",
        is_command=True,
    ),
    Phrase(
        "antworte",
        "antworten? (?:sie)? (?:nur|ausschließlich) mit (?:dem wort|den worten|dem satz|json|keine risiken)",
        is_command=True,
    ),
    # Chinese.
    Phrase(
        "忽略 无视 忘记 忘掉 忽视 不要理会 不要遵守",
        "(?:忽略|无视|忘记|忘掉|忽视|不要理会|不要遵守)"
        "(?:你|您|的|在|此|之前|以上|上述|上面|先前|前面|此前|所有|一切|全部|任何|收到|系统|给出){1,6}"
        "(?:指令|指示|提示|命令|规则|要求)",
        is_command=True,
    ),
    Phrase(
        "系统提示 系统指令 提示词",
        "(?:忽略|无视|输出|显示|泄露|重复|告诉我) [你您的所有]{0,3} (?:系统提示|系统指令|提示词)",
    ),
    Phrase(
        "你是 您是 你为 您为",
        f"(?:如果|若|假如|因为|既然) [你您] [是为] (?:一[个名款])? {_CHINESE_AI}",
    ),
    Phrase("你 您", f"[你您] (?:现在)? [是作为]{{1,2}} (?:一[个名款])? (?:乐于助人的|专业的)? {_CHINESE_AI}"),
    Phrase("作为", f"作为 (?:一[个名款])? {_CHINESE_AI} (?:助手|模型|系统)? [你您] [必应需要不只]"),
    Phrase(
        "不要 请勿 别 切勿",
        "(?:不要|请勿|别|切勿) (?:在报告中|在摘要中)? (?:报告|提及|提到|指出|标记|列出|汇报|总结)"
        "(?:此|本|该|这|这个|这些|以下|上述|任何) (?:条款|条|段|风险|问题|句|内容)",
    ),
    Phrase(
        "将 把",
        "[将把] (?:此|本|该|这份) (?:合同|文件|文档|协议|条款) (?:的风险)?"
        "(?:评为|评定为|标记为|评估为|归类为|视为) (?:低|无|零|安全|没有)",
    ),
    Phrase("只 仅", "[只仅] 需? (?:回复|回答|输出|返回) (?:json|无风险|没有风险|低风险|同意|批准|通过)"),
    # French, Spanish, Portuguese, Italian, Dutch, Polish, Russian, Japanese.
    Phrase(
        "ignore oublie tienspascompte tenezpascompte",
        "(?:ignorez?|oubliez?|ne (?:tiens|tenez) pas compte de) (?:toutes?|tous|les|vos|tes|des){1,3}"
        "(?:instructions|consignes|directives|règles) (?:précédentes|antérieures|ci dessus|ci avant|du système)",
        is_command=True,
        unless_after="(?:de|du|d|relatives|concernant|par)",
    ),
    Phrase(
        "ignora ignore olvida olvide",
        "(?:ignora|ignore|ignorad|olvida|olvide) (?:todas|todos|las|los|tus|sus){1,3}"
        "(?:instrucciones|indicaciones|órdenes|reglas) (?:anteriores|previas|precedentes|del sistema)",
        is_command=True,
        unless_after="(?:de|del|relativas|sobre|por)",
    ),
    Phrase(
        "ignore ignora esqueça desconsidere",
        "(?:ignore|ignora|esqueça|desconsidere) (?:todas|as|suas|tuas){1,3}"
        "(?:instruções|orientações|regras) (?:anteriores|prévias|acima)",
        is_command=True,
        unless_after="(?:d[eao]|relativas|sobre|por)",
    ),
    Phrase(
        "ignor dimentica",
        "(?:ignora|ignorate|ignori|dimentica|dimenticate) (?:tutte|le|tue|vostre|sue){1,3}"
        "(?:istruzioni|indicazioni|regole) (?:precedenti|di cui sopra|anteriori)",
        is_command=True,
        unless_after="(?:d[ie]|relative|su|da)",
    ),
    Phrase(
        "negeer vergeet",
        "(?:negeer|vergeet) (?:alle|de|je|uw){0,3} (?:vorige|eerdere|voorgaande|bovenstaande)"
        "(?:instructies|opdrachten|aanwijzingen)",
        is_command=True,
        unless_after="(?:van|over|inzake|door)",
    ),
    Phrase(
        "ignoruj zapomnij",
        "(?:zignoruj|ignoruj|zapomnij o) (?:wszystkie|wszystkich|poprzednie|wcześniejsze|poprzednich|powyższe){1,3}"
        "(?:instrukcj|poleceni|zasad)",
        is_command=True,
    ),
    Phrase(
        "игнорируй забудь",
        "(?:игнорируй|проигнорируй|забудь) (?:те)? (?:все|всё|свои|ваши){0,2}"
        "(?:предыдущие|прежние|вышеуказанные|предшествующие|системные) (?:инструкции|указания|команды|правила)",
        is_command=True,
    ),
    Phrase(
        "無視 忘れ",
        "(?:これまで|以前|上記|前|今まで|すべて|全て|の){1,5} (?:指示|命令|プロンプト) [をは] (?:すべて|全て)?"
        "(?:無視|忘れ) (?:して(?!は)|しろ|ろ|て)",
    ),
    Phrase(
        "situes sivousêtes sieres sevocêé sesei alsjeeen jeślijesteś еслиты есливы",
        "(?:si (?:tu es|vous êtes) une? (?:ia|intelligence artificielle|modèle de langage)|"
        "si eres (?:una?)? (?:ia|inteligencia artificial|modelo de lenguaje)|"
        "se você é (?:uma?)? (?:ia|inteligência artificial|modelo de linguagem)|"
        "se sei un[ao]? (?:ia|intelligenza artificiale|modello linguistico)|als je een (?:ai|taalmodel)|"
        "jeśli jesteś (?:ai|sztuczną inteligencją|modelem językowym)|"
        "если (?:ты|вы) (?:ии|искусственный интеллект|языковая модель))",
    ),
)
