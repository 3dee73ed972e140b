"""What can be wrong in a job file, and the sentence that says so.

Text from the file never stands in a sentence, names of keys aside: any value may be a pasted secret. Errors come in the
shape in which pydantic lists them, as plain mappings: ``type``, ``loc``, ``msg``, ``input`` and, for most types,
``ctx``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.storage import is_url
from pipeline.text import printable, shortened

_NO_SECRETS = (
    "a key must not stand in this file: remove it and set the environment variable "
    "YOUROUTER_API_KEY or ANTHROPIC_API_KEY, or the one that api_key_env names"
)

_SECRET_WORDS = {"key", "keys", "apikey", "token", "secret", "password", "authorization", "bearer", "cookie"}
_SECRET_VALUE = re.compile(r"\s*(?:[Bb]earer\s+)?sk-")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_OWN_HEADERS = {"host", "content-length", "content-type", "transfer-encoding", "connection", "anthropic-version"}

_MESSAGES = {
    "missing": "is missing",
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le:g}",
    "model_type": "must be a table",
    "string_type": "must be text in quotes",
    "tuple_type": "must be a list in [brackets]",
}

# The key is known and wants a number or a switch: what stands there is no secret.
_SHOWS_VALUE = {
    "bool_type",
    "float_type",
    "greater_than",
    "greater_than_equal",
    "int_type",
    "less_than_equal",
    "value_error",
}

Place = tuple[str | int, ...]
"""The keys and list positions that lead to a value: ``("report", "formats", 0)``."""

KnownKeys = Mapping[str, Collection[str]]
"""Every key at the top of a job file with the keys of its section; a setting that is no section has none."""

NAMED_TABLES = "fields"
"""The section whose keys are tables, with names that the job chooses; its known keys are those of each table."""


def problems_of(data: object, errors: Iterable[Mapping[str, Any]], known: KnownKeys) -> dict[Place, str]:
    """What is wrong at each place: ``[split] max_pages = 0: must be at least 1``.

    A pasted secret anywhere in ``data`` is a problem, and the only one at its place. An error of a whole section may
    name the key it is about as ``key`` in its ``ctx``.
    """
    problems = {place: f"{_shown(place, known)}: {_NO_SECRETS}" for place in _secrets(data)}
    for error in errors:
        place = tuple(part for part in error["loc"] if part != "[key]")
        if "key" in error.get("ctx", {}):
            place += (error["ctx"]["key"],)
        problems.setdefault(place, f"{_shown(place, known)}{_value(error)}: {_message(error, known)}")
    return problems


def told(problems: Mapping[Place, str], path: Path, lines: Mapping[tuple[str, ...], int]) -> list[str]:
    """Each problem after the ``path`` and its line, in the order of the file; ``lines`` count from 1."""
    placed = []
    for place, problem in problems.items():
        line = _line(place, lines)
        placed.append((line, f"{printable(str(path))}{f':{line}' if line else ''}: {problem}"))
    return [text for _, text in sorted(placed)]


def syntax_problem(error: ValueError, text: str) -> str:
    """``LINE: not valid TOML: …``: what ``tomllib`` says of ``text``; if it names no line, the last one."""
    place = re.search(r"\(at line (\d+), column", str(error))
    line = place[1] if place else text.rstrip("\n").count("\n") + 1
    what = str(error).replace("Cannot overwrite a value", "Cannot overwrite a value: this key is set twice")
    return f"{line}: not valid TOML: {_harmless(what)}"


def reading_problem(error: OSError | UnicodeDecodeError, path: Path) -> str:
    """Why there is no text: what happened to ``path`` and, where it is not the job meant, which jobs there are."""
    shown = printable(str(path))
    match error:
        case FileNotFoundError():
            return f"{shown}: no such file{_other_jobs(path)}"
        case IsADirectoryError():
            return f"{shown}: is a folder, not a job file{_other_jobs(path / path.name)}"
        case OSError():
            return f"{shown}: cannot be read: {error.strerror}"
    line = error.object.count(b"\n", 0, error.start) + 1
    return f"{shown}:{line}: is not UTF-8; save the file as UTF-8"


def argument_problems_of(endpoint: str | None, data: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """What is wrong with ``--endpoint``, None if not given, for the job file ``data``; ``names`` are the endpoints."""
    if endpoint is None:
        return []
    if endpoint not in names:
        return [f"--endpoint: must be one of {', '.join(names)}{_did_you_mean(endpoint, names)}"]
    section = data.get("endpoint")
    if endpoint == "custom" and not (isinstance(section, dict) and section.get("use") == "custom"):
        return ['--endpoint custom: the job file must say [endpoint] use = "custom" and its base_url']
    return []


# Rules for texts. Each returns the text, ready for use, or raises ValueError with the rest of the sentence.


def not_blank(text: str) -> str:
    """Any text but an empty one."""
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def one_line(text: str) -> str:
    """A text that is shown or sent on one line."""
    if _CONTROL_CHARACTER.search(text):
        raise ValueError("must be one line without control characters")
    return not_blank(text)


def variable_name(text: str) -> str:
    """The name of an environment variable."""
    # Capitals alone: what was pasted here instead of a name is most likely the key itself.
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", text):
        raise ValueError("must be the NAME of an environment variable (capital letters, digits, _), never the key")
    return text


def api_root(text: str) -> str:
    """The address that ``/v1/messages`` is added to, whichever of its usual ends is written."""
    try:
        url = urlsplit(one_line(text))
        blank = re.search(r"\s", text)
        well_formed = url.scheme in ("http", "https") and url.hostname and url.port != 0 and not blank
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ValueError('must be an address like "https://host" or "http://host:port/path"')
    if "@" in url.netloc:
        raise ValueError("must not hold a user name or password; a key belongs in the environment, see api_key_env")
    if "?" in text or "#" in text:
        raise ValueError("must not hold a query (?) or fragment (#)")
    return text.rstrip("/").removesuffix("/v1/messages").removesuffix("/v1").rstrip("/")


def host_name(text: str) -> str:
    """A host by its name or address, without a port."""
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", text):
        raise ValueError('must be a host like "mail.example.com"; the port has a key of its own')
    return text


def cluster_address(text: str) -> str:
    """Where a Ray cluster is: ``auto`` for that of this machine, or its head by host and port."""
    head = re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?:([0-9]{1,5})", text)
    if text != "auto" and not (head and 1 <= int(head[1]) <= 65_535):
        raise ValueError('must be "auto" or the head\'s "host:port"; Ray Client (ray://) is not supported')
    return text


def no_url(text: str) -> str:
    """A path on a disk, not an address, which would be taken for a folder of that name."""
    if is_url(text):
        raise ValueError("must be a path on a disk, not an address")
    return text


def mail_address(text: str) -> str:
    """The address of a mailbox, without a name."""
    # Narrower than what mail allows: nothing in it can end a header or begin another address.
    if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", text):
        raise ValueError('must be an address like "you@example.com"')
    return text


def header_name(text: str) -> str:
    """A header that a job may set, in lower case."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise ValueError("is not a header name")
    if _names_a_secret(text):
        raise ValueError(_NO_SECRETS)
    if text.lower() in _OWN_HEADERS:
        raise ValueError("must not be set here: every request brings its own")
    return text.lower()


def header_value(text: str) -> str:
    """What may stand after a header's name."""
    if not re.fullmatch(r"[!-~]+(?: +[!-~]+)*", text):
        raise ValueError("must be one line of plain ASCII text")
    return text


def _names_a_secret(name: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def _did_you_mean(word: object, known: Iterable[str]) -> str:
    near = get_close_matches(str(word).lower(), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _other_jobs(path: Path) -> str:
    names = sorted(job.stem for job in path.parent.glob("*.toml"))
    folder = printable(str(path.parent))
    if not names:
        return f"; there are no job files in {folder}"
    near = get_close_matches(path.stem, names, n=1)
    guess = f"; did you mean {printable(near[0])}?" if near else ""
    return f"{guess} (jobs in {folder}: {printable(', '.join(names))})"


def _secrets(value: object, place: Place = ()) -> Iterator[Place]:
    """The places of all texts that look like a key."""
    if isinstance(value, str) and _SECRET_VALUE.match(value):
        yield place
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _secrets(item, (*place, key))


def _message(error: Mapping[str, Any], known: KnownKeys) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return _unknown(error["loc"], error["input"], known)
        case "literal_error":
            choices = re.findall(r"'([^']+)'", context["expected"])
            return f"must be one of {', '.join(choices)}{_did_you_mean(error['input'], choices)}"
        case "value_error":
            return str(context["error"])
        case kind if kind in _MESSAGES:
            return _MESSAGES[kind].format(**context)
    return str(error["msg"])


def _unknown(place: Place, value: object, known: KnownKeys) -> str:
    name = str(place[-1])
    if isinstance(value, str) and _names_a_secret(name):
        return _NO_SECRETS
    homes = [f"[{section}]" for section, keys in known.items() if name in keys and section != NAMED_TABLES]
    if homes:
        return f"unknown key; it belongs under {' or '.join(homes)}"
    here = known if len(place) == 1 else known[str(place[0])]
    return f"unknown key{_did_you_mean(name, here) or '; known here: ' + ', '.join(here)}"


def _value(error: Mapping[str, Any]) -> str:
    """`` = value`` where that is a number of readable length: a text may be a secret."""
    value = error["input"]
    shown = error["type"] in _SHOWS_VALUE and isinstance(value, int | float) and abs(value) < 1e15
    return f" = {str(value).lower()}" if shown else ""


def _shown(place: Place, known: KnownKeys) -> str:
    """``title``, ``[split]``, ``[split] max_pages``, ``[report] formats[0]``, ``[fields.NAME] type``."""
    section, *keys = place
    if not keys and not known.get(str(section)):
        return _harmless(str(section))
    if section == NAMED_TABLES and keys:
        section, keys = f"{section}.{keys[0]}", keys[1:]
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
    return _harmless(f"[{section}] {path}".rstrip())


def _line(place: Place, lines: Mapping[tuple[str, ...], int]) -> int:
    """The line of the innermost key on the way to ``place`` that has one; 0 if none has."""
    line = 0
    keys: tuple[str, ...] = ()
    for part in place:
        if isinstance(part, int):
            break
        keys += (part,)
        line = lines.get(keys, line)
    return line


def _harmless(text: str) -> str:
    return re.sub(r"\bsk-[^\s'\"]*", "sk-…", printable(shortened(text, 200)))
