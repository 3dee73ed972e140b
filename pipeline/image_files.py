"""Image files as documents: which of their images are pages, and each page as a file that the API takes.

Everything here runs in a worker process (see ``sandbox``): an image is hostile input.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline import images
from pipeline.domain import Layout, MediaType, PagePicture, PageRange, Picture
from pipeline.pdf import Depicted, ImageError, Inspection, Source, SourceChangedError

HEAD_BYTES = 12
"""So many bytes from the beginning of a file say whether it is an image."""

# The API counts the base64 of an image and says "image exceeds 5 MB maximum": 5,242,880 bytes (the error as users
# quote it, https://github.com/anthropics/claude-code/issues/19631).
MOST_IMAGE_BYTES = 5 * 1024 * 1024 // 4 * 3

# Of each side, by the API's documentation of vision: 8000, or 2000 where a request has more than 20 images.
_MOST_PX = 8000
_MANY_IMAGES = 20
_MOST_PX_OF_MANY = 2000

# Longest side in pixels and quality of what cannot go out as it is. The API makes at most 2576 of the first.
_STEPS = ((4000, 90), (4000, 75), (2600, 75), (1600, 60))

_PREVIEW_QUALITY = 90  # of what is made small and then coded once more

_MOST_FILE_BYTES = 500_000_000  # it is in memory as a whole, beside its pixels

_SIGNATURES = {
    b"\xff\xd8\xff": MediaType.JPEG,
    b"\x89PNG\r\n\x1a\n": MediaType.PNG,
    b"GIF87a": MediaType.GIF,
    b"GIF89a": MediaType.GIF,
    b"II*\0": MediaType.TIFF,
    b"MM\0*": MediaType.TIFF,
    b"II+\0": MediaType.TIFF,  # BigTIFF
    b"MM\0+": MediaType.TIFF,
}


def media_type(head: bytes) -> MediaType | None:
    """What image a file is by its first bytes; None if it is none that can be read."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return MediaType.WEBP
    return next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)


def inspect(source: Source) -> Inspection:
    """Count the pages of an image file: those of a TIFF, one of any other. A single page is decoded.

    Raises:
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read.
    """
    kind = MediaType.PDF
    try:
        data = _read(source)
        kind = _kind(data)
        with _foreseen():
            places, note = _places(data, kind), None
            if not places:
                raise ImageError("the file has no image that is a page")
            if len(places) == 1:
                images.check(data, places[0])
            if kind is not MediaType.TIFF and images.facts(data).is_animated:
                note = "an animation: its first image is taken for the page"
    except ImageError as error:
        return Inspection(None, problem=str(error), media_type=kind)
    layout = Layout(text_chars=(0,) * len(places), scans=tuple(range(1, len(places) + 1)))
    return Inspection(len(places), note=note, layout=layout, media_type=kind)


def depict(source: Source, pages: PageRange, target: Path, room_bytes: int, halved: bool) -> Depicted | None:
    """Write pictures of the pages one after the other, as many as fit; None if the first alone does not.

    A file that is a picture the API takes stays as it is, and nothing is written. ``room_bytes`` are those of all
    pictures in base64. ``halved``: each gets half of the bytes that it has otherwise. The same pages give the same
    bytes. What fails leaves no file.

    Raises:
        ImageError: a page is broken or too large to be decoded.
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read or the target not written.
    """
    data = _read(source)
    kind = _kind(data)
    most_px = _MOST_PX if len(pages) <= _MANY_IMAGES else _MOST_PX_OF_MANY
    most_bytes = min(MOST_IMAGE_BYTES, room_bytes // 4 * 3)
    with _foreseen():
        fits = kind is not MediaType.TIFF and len(data) <= most_bytes and _is_taken(data, most_px)
        if fits and not halved:
            return Depicted(pages, (Picture(kind, len(data)),), unchanged=True)
        places = _places(data, kind)
    if pages.last > len(places):
        raise ImageError(f"{pages.label} cannot be read: the file has {len(places)} pages")
    pictures: list[Picture] = []
    try:
        with target.open("wb") as out:
            for place in places[pages.first - 1 : pages.last]:
                coded = _coded(data, place, most_px, most_bytes, halved, len(data) if fits else None)
                if coded is None:
                    break
                picture = Picture(MediaType(coded.media_type), len(coded.data))
                room_bytes -= picture.base64_bytes
                if room_bytes < 0:
                    break
                out.write(coded.data)
                pictures.append(picture)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if not pictures:
        target.unlink(missing_ok=True)
        return None
    return Depicted(PageRange(pages.first, pages.first + len(pictures) - 1), tuple(pictures))


def previews(source: Source, pages: Iterable[int], longest_px: int) -> dict[int, PagePicture]:
    """Small pictures of some pages, upright; a page that cannot be decoded is left out.

    Raises:
        ImageError: the file cannot be used.
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read.
    """
    data = _read(source)
    with _foreseen():
        places = _places(data, _kind(data))
    found: dict[int, PagePicture] = {}
    for page in pages:
        with suppress(images.PictureError, IndexError):
            found[page] = images.preview(images.coded(data, places[page - 1], longest_px, _PREVIEW_QUALITY).data)
    return found


def _coded(
    data: bytes, place: int, most_px: int, most_bytes: int, halved: bool, size_bytes: int | None
) -> images.Coded | None:
    """One page in the first of the steps that is small enough; ``size_bytes`` is what it has as it lies there."""
    if halved and size_bytes is not None:
        most_bytes, halved = size_bytes // 2, False
    for longest_px, quality in _STEPS:
        with _foreseen():
            coded = images.coded(data, place, min(longest_px, most_px), quality)
        if len(coded.data) > most_bytes:
            continue
        if not halved:
            return coded
        most_bytes, halved = len(coded.data) // 2, False
    return None


def _places(data: bytes, kind: MediaType) -> tuple[int, ...]:
    """Where the pages are among the images of the file."""
    return images.tiff_pages(data) if kind is MediaType.TIFF else (0,)


def _is_taken(data: bytes, most_px: int) -> bool:
    """Whether the API takes the file as it is and shows its model what people see."""
    facts = images.facts(data)
    return facts.is_plain and max(facts.width_px, facts.height_px) <= most_px


def _read(source: Source) -> bytes:
    # As a whole: what goes wrong from here on is the image's fault, not the disk's.
    if source.size_bytes > _MOST_FILE_BYTES:
        raise ImageError(f"the image file is larger than {_MOST_FILE_BYTES // 1_000_000} MB")
    with Path(source.path).open("rb") as file:
        data = file.read()
        facts = os.fstat(file.fileno())
    if (facts.st_size, facts.st_mtime_ns, len(data)) != (source.size_bytes, source.mtime_ns, source.size_bytes):
        raise SourceChangedError(source.path)
    return data


def _kind(data: bytes) -> MediaType:
    kind = media_type(data[:HEAD_BYTES])
    if kind is None:
        raise ImageError("not an image")
    return kind


@contextmanager
def _foreseen() -> Iterator[None]:
    try:
        yield
    except images.PictureError as error:
        raise ImageError(str(error)) from error
