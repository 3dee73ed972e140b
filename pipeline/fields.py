"""What a job asks of each document besides summary, facts and risks: its own fields, as it names them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

FieldType = Literal["text", "number", "date", "boolean", "list"]

MOST_NULLABLE = 16
"""So many fields may be null: the API's documentation of structured outputs allows 16 union types in a schema."""

RESERVED = frozenset({
    "summary", "document_type", "parties", "key_dates", "risks", "fields",  # what is asked for anyway
    "document", "sha256", "status", "reason", "pages", "pages_covered", "missing_pages", "read_by", "change", "note",
})  # fmt: skip
"""Names that mean something else already, in an answer or in a report."""

_TEXT = {"type": "string"}
_NULL = {"type": "null"}
_SCHEMAS: Mapping[FieldType, Mapping[str, Any]] = {
    "text": _TEXT,
    "number": {"anyOf": [{"type": "number"}, _NULL]},
    "date": {"anyOf": [{"type": "string", "format": "date"}, _NULL]},
    "boolean": {"anyOf": [{"type": "boolean"}, _NULL]},
    "list": {"type": "array", "items": _TEXT},
}
_NULLABLE = frozenset(kind for kind, schema in _SCHEMAS.items() if "anyOf" in schema)


@dataclass(frozen=True, slots=True)
class ResultField:
    """One field of a job. Where a document does not say: "", an empty list, or null for the other types.

    A date is ``YYYY-MM-DD``, a list one of texts.
    """

    name: str
    type: FieldType
    description: str

    @property
    def schema(self) -> Mapping[str, Any]:
        """Its JSON schema, in the words that structured outputs know."""
        return {**_SCHEMAS[self.type], "description": self.description}


def asked_in(properties: Mapping[str, Any]) -> Iterator[ResultField]:
    """The fields whose ``schema`` stand under their names; what is none of ours is left out."""
    for name, schema in properties.items():
        described = isinstance(schema, dict) and isinstance(schema.get("description"), str)
        bare = {key: value for key, value in schema.items() if key != "description"} if described else None
        for kind, known in _SCHEMAS.items():
            if bare == known:
                yield ResultField(name, kind, schema["description"])


def checked_name(name: str) -> str:
    """The name of a field, which becomes a key of JSON and the head of a column.

    Raises:
        ValueError: the rest of a sentence that says what is wrong with it.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ValueError("is not a name for a field: up to 40 small letters, digits and _, a letter first")
    if name in RESERVED:
        raise ValueError("is a name that every report has already; choose another")
    return name


def check_types(types: Collection[FieldType]) -> None:
    """Whether one request can ask for fields of these types.

    Raises:
        ValueError: the rest of a sentence that says what is wrong with them.
    """
    nullable = sum(kind in _NULLABLE for kind in types)
    if nullable > MOST_NULLABLE:
        names = " or ".join(sorted(_NULLABLE))
        raise ValueError(f"has {nullable} of type {names}; the API takes at most {MOST_NULLABLE} in one request")
