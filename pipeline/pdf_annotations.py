"""What of an annotation travels with its page, how it looks and what it says, not where it leads; and what it shows.

Form fields, stamps, signatures and comments stand in a document as annotations alone. Actions, destinations,
scripts, attached files and the ties to other objects are left behind: an annotation keeps the entries listed
here and no others.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.pdf_reader import (
    ArrayObject,
    DictionaryObject,
    NameObject,
    StreamObject,
    TextStringObject,
    found,
)

# ISO 32000-1, 12.5: entries of all annotations, of markup annotations, of single kinds; and of widgets.
_KEPT = frozenset({
    "/Type", "/Subtype", "/Rect", "/Contents", "/NM", "/M", "/F", "/AP", "/AS", "/Border", "/C", "/OC", "/T",
    "/CA", "/ca", "/RC", "/CreationDate", "/Subj", "/IT", "/BS", "/BE", "/IC", "/RD", "/DA", "/DS", "/Q",
    "/QuadPoints", "/Vertices", "/InkList", "/L", "/LE", "/LL", "/LLE", "/LLO", "/CL", "/CP", "/CO", "/Cap",
    "/Sy", "/Name", "/State", "/StateModel", "/Open", "/Path", "/Rotate", "/RO", "/OverlayText", "/Repeat",
    "/Lang", "/BM", "/H", "/MK",
})  # fmt: skip
# Entries of form fields (12.7.3), which a widget may have from its parents.
_OF_FIELDS = ("/FT", "/Ff", "/V", "/DV", "/DA", "/Q", "/DS", "/RV", "/MaxLen", "/Opt", "/TI", "/I", "/TU")

_DEEPEST_FIELD = 32
_NOT_SHOWN = 0b100010  # 12.5.3: hidden, or not to be seen on a screen


def kept(annotation: DictionaryObject) -> DictionaryObject | None:
    """The annotation as it travels; None for one that shows nothing itself, as most links do."""
    kind = found(annotation.get("/Subtype"))
    if not isinstance(kind, NameObject) or (kind == "/Popup" and "/AP" not in annotation):
        return None
    if kind == "/Link" and "/AP" not in annotation and not _has_border(annotation):
        return None
    copy = DictionaryObject({key: value for key, value in annotation.items() if key in _KEPT})
    if kind == "/Widget":
        _add_field(copy, annotation)
    return copy


def shown(annotations: object) -> Iterator[StreamObject]:
    """What the annotations of a page show on it: the form of each that is not hidden, in its present state."""
    for annotation in map(found, annotations if isinstance(annotations, ArrayObject) else ()):
        if not isinstance(annotation, DictionaryObject):
            continue
        flags, looks = found(annotation.get("/F")), found(annotation.get("/AP"))
        is_hidden = isinstance(flags, int) and flags & _NOT_SHOWN
        if is_hidden or found(annotation.get("/Subtype")) == "/Popup" or not isinstance(looks, DictionaryObject):
            continue
        form = found(looks.get("/N"))
        if isinstance(form, DictionaryObject) and not isinstance(form, StreamObject):  # one for each state
            form = found(form.get(str(found(annotation.get("/AS")))))
        if isinstance(form, StreamObject):
            yield form


def is_widget(annotation: DictionaryObject) -> bool:
    """Whether it is a form field on the page."""
    return found(annotation.get("/Subtype")) == "/Widget"


def default_appearance(annotation: DictionaryObject) -> bytes:
    """The content that sets font and colour of its text; b"" where it has none."""
    text = found(annotation.get("/DA"))
    return bytes(getattr(text, "original_bytes", b""))


def _has_border(annotation: DictionaryObject) -> bool:
    """Whether a border is drawn: one unit wide, unless an entry says otherwise (12.5.4)."""
    style = found(annotation.get("/BS"))
    if isinstance(style, DictionaryObject):
        width = found(style.get("/W"))
    else:
        border = found(annotation.get("/Border"))
        width = found(border[2]) if isinstance(border, ArrayObject) and len(border) > 2 else None
    return not (isinstance(width, int | float) and width <= 0)


def _add_field(copy: DictionaryObject, annotation: DictionaryObject) -> None:
    """Make a widget its own field: what it has from its parents becomes its own."""
    names = []
    for field in _with_parents(annotation):
        for key in _OF_FIELDS:
            if key in field and key not in copy:
                copy[NameObject(key)] = field.raw_get(key)
        name = found(field.get("/T"))
        if isinstance(name, TextStringObject):
            names.append(str(name))
    if names:
        copy[NameObject("/T")] = TextStringObject(".".join(reversed(names)))
    # A signature's value is a proof of the whole file, which the cut pages are not; what is seen of it stays.
    value = found(copy.get("/V"))
    if isinstance(value, DictionaryObject) and not isinstance(value, StreamObject):
        del copy["/V"]


def _with_parents(field: DictionaryObject) -> Iterator[DictionaryObject]:
    for _ in range(_DEEPEST_FIELD):
        yield field
        parent = found(field.get("/Parent"))
        if not isinstance(parent, DictionaryObject) or isinstance(parent, StreamObject):
            return
        field = parent
