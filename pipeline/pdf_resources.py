"""Which of its resources a page or form really uses, by the names that stand in its content.

Documents often have one dictionary of resources for all pages. A page that took it along as it is would
bring the pictures of the whole document. Whatever leaves a doubt keeps everything: content that cannot be
decoded to its end, a font that draws with the page's own resources, too much to look through.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.pdf_reader import (
    ArrayObject,
    DictionaryObject,
    IndirectObject,
    NullObject,
    StreamObject,
    encoded,
    resolved,
)

NAMED = ("/Font", "/XObject", "/ExtGState", "/ColorSpace", "/Pattern", "/Shading", "/Properties")
"""The parts of a resource dictionary whose entries content refers to by name (ISO 32000-1, 7.8.3)."""

# Used without being named (8.6.5.6).
_ALWAYS_USED = frozenset({"/DefaultGray", "/DefaultRGB", "/DefaultCMYK"})

_LARGEST_CONTENT_BYTES = 16_000_000
_MOST_FORMS = 500
_MOST_REMEMBERED = 20_000

_NAME = re.compile(rb"/([^\0\t\n\f\r ()<>\[\]{}/%]*)")
_ESCAPE = re.compile(rb"#([0-9A-Fa-f]{2})")


class _UnclearError(Exception):
    """What is used cannot be told."""


@dataclass(frozen=True, slots=True)
class _Form:
    """Content of its own: the names in it, and its own resources, if it has any."""

    names: frozenset[str]
    resources: DictionaryObject | None


class Uses:
    """Tells what is used, and remembers the forms of one document."""

    def __init__(self) -> None:
        self._forms: dict[tuple[int, int], _Form | None] = {}

    def pruned(self, resources: DictionaryObject, contents: Iterable[StreamObject]) -> DictionaryObject | None:
        """The resources without the entries that no content can name; None where all of them are needed."""
        if len(self._forms) > _MOST_REMEMBERED:
            self._forms.clear()
        try:
            used = self._used(resources, contents)
        except _UnclearError:
            return None
        kept, is_smaller = DictionaryObject(), False
        for key, value in resources.items():
            part = _dictionary(value) if key in NAMED else None
            if part is None:
                kept[key] = value
                continue
            left = DictionaryObject({name: entry for name, entry in part.items() if name in used})
            is_smaller = is_smaller or len(left) < len(part)
            kept[key] = left
        return kept if is_smaller else None

    def _used(self, resources: DictionaryObject, contents: Iterable[StreamObject]) -> set[str]:
        used = set(_ALWAYS_USED)
        for content in contents:
            used |= _names(content)
        # A form without an entry of that name in its own resources is given the page's.
        waiting = [(name, resources) for name in used]
        seen = set(used)
        looked_at: set[tuple[int, int]] = set()
        while waiting:
            name, scope = waiting.pop()
            for form in self._forms_named(name, scope):
                own = form.resources if form.resources is not None else scope
                if (id(form), id(own)) in looked_at:
                    continue
                looked_at.add((id(form), id(own)))
                if len(looked_at) > _MOST_FORMS:
                    raise _UnclearError
                for inner in form.names:
                    if own is not resources and any(inner in part for part in _parts(own)):
                        waiting.append((inner, own))
                    elif inner not in seen:
                        seen.add(inner)
                        used.add(inner)
                        waiting.append((inner, resources))
        return used

    def _forms_named(self, name: str, scope: DictionaryObject) -> Iterator[_Form]:
        for key in ("/XObject", "/Pattern", "/ExtGState", "/Font"):
            part = _dictionary(scope.get(key))
            value = part.get(name) if part else None
            if value is None:
                continue
            if key == "/Font":
                _check_font(value)
                continue
            form = self._form(_mask_group(value) if key == "/ExtGState" else value)
            if form:
                yield form

    def _form(self, value: object) -> _Form | None:
        if not isinstance(value, IndirectObject):
            return None
        key = value.generation, value.idnum
        if key not in self._forms:
            self._forms[key] = _read_form(value)
        return self._forms[key]


def _read_form(value: object) -> _Form | None:
    stream = _object(value)
    if not isinstance(stream, StreamObject) or stream.get("/Subtype") == "/Image":
        return None
    return _Form(frozenset(_names(stream)), _dictionary(stream.get("/Resources")))


def _check_font(value: object) -> None:
    font = _dictionary(value)
    if font is not None and _object(font.get("/Subtype")) == "/Type3" and "/Resources" not in font:
        raise _UnclearError


def _mask_group(value: object) -> object:
    """The form behind a soft mask of a graphics state."""
    state = _dictionary(value)
    mask = _dictionary(state.get("/SMask")) if state is not None else None
    return mask.get("/G") if mask is not None else None


def _parts(resources: DictionaryObject) -> Iterator[DictionaryObject]:
    for key in NAMED:
        part = _dictionary(resources.get(key))
        if part is not None:
            yield part


def _object(value: object) -> object:
    try:
        return resolved(value)
    except MemoryError:
        raise
    except Exception as error:
        raise _UnclearError from error


def _dictionary(value: object) -> DictionaryObject | None:
    found = _object(value)
    return found if isinstance(found, DictionaryObject) else None


def names_in(content: bytes) -> set[str]:
    """Every name in decoded content: in operands, inline images and what only looks like a name."""
    names = {match[1] for match in _NAME.finditer(content)}
    return {
        "/" + (_ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), name) if b"#" in name else name).decode("latin1")
        for name in names
    }


def _names(stream: StreamObject) -> set[str]:
    return names_in(_decoded(stream))


def _decoded(stream: StreamObject) -> bytes:
    """The content of a stream, decoded strictly: a reader that repairs might repair in another way than the next.

    Raises:
        _UnclearError: it is broken, too large, or in an encoding that content rarely has.
    """
    filters = _object(stream.get("/Filter"))
    chain = list(filters) if isinstance(filters, ArrayObject) else [filters]
    data = encoded(stream)
    for item in chain:
        match _object(item):
            case None | NullObject():
                pass
            case "/FlateDecode" | "/Fl":
                _check_no_predictor(stream)
                data = _inflated(data)
            case "/ASCII85Decode" | "/A85":
                data = _from_ascii85(data)
            case _:
                raise _UnclearError
    if len(data) > _LARGEST_CONTENT_BYTES:
        raise _UnclearError
    return data


def is_decodable(content: StreamObject) -> bool:
    """Whether content is whole, and in an encoding that content mostly has."""
    try:
        _decoded(content)
    except _UnclearError:
        return False
    return True


def _check_no_predictor(stream: StreamObject) -> None:
    parameters = _object(stream.get("/DecodeParms"))
    for item in parameters if isinstance(parameters, ArrayObject) else [parameters]:
        found = _dictionary(item)
        if found is not None and "/Predictor" in found:
            raise _UnclearError


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data, _LARGEST_CONTENT_BYTES)
    except zlib.error as error:
        raise _UnclearError from error
    if not inflater.eof:
        raise _UnclearError
    return content


def _from_ascii85(data: bytes) -> bytes:
    body, end, _ = data.partition(b"~>")
    if not end:
        raise _UnclearError
    try:
        return base64.a85decode(body.strip(), ignorechars=b" \t\n\r\f\0")
    except ValueError as error:
        raise _UnclearError from error
