"""PDFs broken at random: in their bytes, and in what the bytes mean. A seed gives the same file every time."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

Mutation = Callable[[random.Random, bytes], bytes]

_OBJECT = re.compile(rb"(?<!\d)(\d{1,10}) (\d{1,5}) obj\b(.*?)\bendobj", re.DOTALL)
_HEADER = re.compile(rb"(?<!\d)(\d{1,10}) (\d{1,5}) obj\b")
_REFERENCE = re.compile(rb"(?<!\d)(\d{1,10}) (\d{1,5}) R\b")
_NUMBER = re.compile(rb"(?<![\w.#])-?\d+(?:\.\d+)?(?![\w.])")
_NAME = re.compile(rb"/[A-Za-z][A-Za-z0-9]*")
_ENTRY = re.compile(
    rb"(/(?:Length|Count|Kids|Parent|Type|Subtype|Contents|Resources|MediaBox|Annots|AP|Filter|DecodeParms|Root|Size"
    rb"|Prev|W|Index|First|N|Pages|Font|XObject|ExtGState|SMask|G|OCGs|ON|OFF|AS|D|AcroForm|Fields|DR|DA|V|T|FT|Encrypt"
    rb"|ID|P|O|U|R|Rotate|CropBox|Group|Properties|Border|Rect))"
    rb"(\s*(?:\d+ \d+ R|-?[\d.]+|/\w+|\[[^\[\]]*\]|\([^()]*\)|<[0-9A-Fa-f]*>))"
)
_TRAILER = re.compile(rb"\btrailer\s*(<<.*?>>)\s*startxref", re.DOTALL)

_DEEP = 3000
_NUMBERS = (
    b"0", b"1", b"-1", b"2", b"7", b"255", b"65535", b"65536", b"2147483647", b"2147483648", b"-2147483649",
    b"4294967296", b"9999999999", b"9223372036854775808", b"1" + b"0" * 40, b"9" * 5000, b"0.5", b"-0.0", b"1e9",
    b"3.5", b"--5", b"+7", b"1" * 400 + b".5", b"." , b"00000000000000000000012",
)  # fmt: skip
_VALUES = (
    b"null", b"true", b"[]", b"<<>>", b"()", b"<>", b"/", b"/A#00B", b"/Page", b"/Pages", b"[null]", b"[[]]", b"(\\",
    b"[1 0 R]", b"[2 0 R 2 0 R]", b"[3 0 R 3 0 R 3 0 R]", b"0 0 R", b"99999 0 R", b"3 65535 R", b"1 0 R", b"2 0 R",
    b"[" * _DEEP, b"<</A" * _DEEP, b"[" * _DEEP + b"]" * _DEEP, b"<</A " * 900 + b"1" + b">>" * 900, b"[1 2", b"<</A 1",
    b"/FlateDecode", b"/Crypt", b"[/FlateDecode/FlateDecode]", b"/DCTDecode", b"[/ASCII85Decode/LZWDecode]",
    b"(" + b"\xff\xfe\xd8\x00" * 20 + b")", b"<41424", b"(\xfe\xff\xd8\x00)", b"/\xe4\xf6#fc", b"[0 0 0 0]",
    b"[(a)(b)]",
)  # fmt: skip


def mutated(seed: int, originals: Mapping[str, bytes]) -> tuple[str, bytes]:
    """A broken file, and in words how it was made."""
    chance = random.Random(seed)
    name = chance.choice(sorted(originals))
    data, made = originals[name], []
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        mutation = chance.choice(_MUTATIONS)
        data = mutation(chance, data)
        made.append(mutation.__name__.strip("_"))
    if chance.random() < 0.5:  # else most of them would only show what is done about a wrong table
        data = with_true_table(data)
        made.append("with a true table")
    return f"{name}: {', '.join(made)}", data


def with_true_table(data: bytes) -> bytes:
    """A cross-reference table of the objects that are there, appended; unchanged where there is no trailer."""
    trailers = _TRAILER.findall(data)
    if not trailers:
        return data
    places = {int(found[1]): (found.start(), int(found[2])) for found in _HEADER.finditer(data)}
    rows = [
        b"%d 1\n%010d %05d n \n" % (number, place, generation)
        for number, (place, generation) in sorted(places.items())
        if number < 10**9 and generation < 10**5
    ]
    trailer = re.sub(rb"/(?:Prev|XRefStm)\s*\d+", b"", trailers[-1])
    table = b"\nxref\n0 1\n0000000000 65535 f \n%btrailer\n%b\nstartxref\n%d\n%%%%EOF\n"
    return data + table % (b"".join(rows), trailer, len(data) + 1)


def _replaced(
    chance: random.Random, data: bytes, what: re.Pattern[bytes], by: Callable[[re.Match[bytes]], bytes]
) -> bytes:
    """One of the places that match, written anew."""
    places = list(what.finditer(data))
    if not places:
        return data
    place = chance.choice(places)
    return data[: place.start()] + by(place) + data[place.end() :]


def _span(chance: random.Random, data: bytes) -> tuple[int, int]:
    begin = chance.randrange(len(data) + 1)
    return begin, min(len(data), begin + int(2 ** chance.uniform(0, 11)))


# In bytes


def _bytes_flipped(chance: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(min(len(out), chance.choice((1, 1, 2, 5, 30)))):
        out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def _bytes_set(chance: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(min(len(out), chance.choice((1, 2, 5)))):
        out[chance.randrange(len(out))] = chance.choice(b"\0\n\r ()<>[]{}/%0123456789-+.R\xff\x80")
    return bytes(out)


def _range_deleted(chance: random.Random, data: bytes) -> bytes:
    begin, end = _span(chance, data)
    return data[:begin] + data[end:]


def _range_doubled(chance: random.Random, data: bytes) -> bytes:
    begin, end = _span(chance, data)
    return data[:end] + data[begin:end] * chance.choice((1, 1, 50)) + data[end:]


def _range_of_noise(chance: random.Random, data: bytes) -> bytes:
    begin, end = _span(chance, data)
    return data[:begin] + chance.randbytes(end - begin) + data[end:]


def _end_cut_off(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _start_cut_off(chance: random.Random, data: bytes) -> bytes:
    return b"%PDF-1.4\n" * chance.randrange(2) + data[_span(chance, data)[0] :]


def _junk_around(chance: random.Random, data: bytes) -> bytes:
    return chance.randbytes(chance.randrange(900)) + data + chance.randbytes(chance.randrange(900))


# In meaning


def _number_changed(chance: random.Random, data: bytes) -> bytes:
    def by(place: re.Match[bytes]) -> bytes:
        near = b"%d" % (int(float(place[0][:15])) + chance.choice((-1, 1, 2, 100)))
        return chance.choice((near, near, *_NUMBERS))

    return _replaced(chance, data, _NUMBER, by)


def _reference_turned(chance: random.Random, data: bytes) -> bytes:
    """To any other object: circles, pages twice, pages that are fonts."""
    numbers = [place[1] for place in _HEADER.finditer(data)] + [b"0", b"99999"]
    return _replaced(chance, data, _REFERENCE, lambda place: b"%b %b R" % (chance.choice(numbers), place[2]))


def _object_replaced(chance: random.Random, data: bytes) -> bytes:
    def by(place: re.Match[bytes]) -> bytes:
        return b"%b %b obj\n%b\nendobj" % (place[1], place[2], chance.choice((*_VALUES, *_NUMBERS)))

    return _replaced(chance, data, _OBJECT, by)


def _objects_swapped(chance: random.Random, data: bytes) -> bytes:
    bodies = [place[3] for place in _OBJECT.finditer(data)]
    if not bodies:
        return data
    one, other = chance.choice(bodies), chance.choice(bodies)
    marker = b"\0swapped\0"
    return data.replace(one, marker).replace(other, one).replace(marker, other)


def _object_removed(chance: random.Random, data: bytes) -> bytes:
    return _replaced(chance, data, _OBJECT, lambda place: b"")


def _object_renumbered(chance: random.Random, data: bytes) -> bytes:
    numbers = [b"%b %b" % (place[1], place[2]) for place in _HEADER.finditer(data)] + [
        b"0 0",
        b"8 70000",
        b"9" * 30 + b" 0",
    ]
    return _replaced(chance, data, _HEADER, lambda place: chance.choice(numbers) + b" obj")


def _entry_changed(chance: random.Random, data: bytes) -> bytes:
    def by(place: re.Match[bytes]) -> bytes:
        return place[1] + b" " + chance.choice((*_VALUES, *_NUMBERS, place[2] * 2, b""))

    return _replaced(chance, data, _ENTRY, by)


def _name_changed(chance: random.Random, data: bytes) -> bytes:
    names = [place[0] for place in _NAME.finditer(data)] + [b"/", b"/X#", b"/" + b"n" * 3000]
    return _replaced(chance, data, _NAME, lambda place: chance.choice(names))


def _word_changed(chance: random.Random, data: bytes) -> bytes:
    """One of the words that hold a file together."""
    words = (
        b"obj",
        b"endobj",
        b"stream",
        b"endstream",
        b"xref",
        b"trailer",
        b"startxref",
        b"%%EOF",
        b"<<",
        b">>",
        b"]",
        b"",
    )
    return _replaced(
        chance, data, re.compile(rb"endobj|obj|endstream|stream|startxref|xref|trailer|%%EOF|<<|>>|\[|\]|\(|\)"),
        lambda place: chance.choice(words),
    )  # fmt: skip


_MUTATIONS: tuple[Mutation, ...] = (
    _bytes_flipped,
    _bytes_set,
    _range_deleted,
    _range_doubled,
    _range_of_noise,
    _end_cut_off,
    _start_cut_off,
    _junk_around,
    *(_number_changed,) * 3,
    *(_reference_turned,) * 3,
    *(_object_replaced,) * 2,
    _objects_swapped,
    _object_removed,
    _object_renumbered,
    *(_entry_changed,) * 4,
    _name_changed,
    _word_changed,
)
