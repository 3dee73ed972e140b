"""What an image of a PDF holds, and the same image with fewer bytes (ISO 32000-1, 8.9.5).

Where a doubt is left, an image stays as it is: filters and colour spaces that are not known here, colours
that mean transparency, soft masks that belong to their image pixel by pixel.
"""

from __future__ import annotations

import zlib

from pipeline import images
from pipeline.images import Jpeg, Layout
from pipeline.pdf_reader import (
    ArrayObject,
    ByteStringObject,
    DictionaryObject,
    NameObject,
    NumberObject,
    StreamObject,
    TextStringObject,
    decoded,
    encoded,
    found,
)

# A JPEG of these holds the samples as they were; only their number says which they are.
_COMPONENTS = {"/DeviceGray": 1, "/CalGray": 1, "/DeviceRGB": 3, "/CalRGB": 3, "/DeviceCMYK": 4, "/Separation": 1}
_DEVICE_SPACES = {1: "/DeviceGray", 3: "/DeviceRGB", 4: "/DeviceCMYK"}
_PACKINGS = frozenset({"/FlateDecode", "/ASCII85Decode", "/ASCIIHexDecode"})
_PICTURE_FILES = frozenset({"/DCTDecode", "/JPXDecode"})
_REPLACED = frozenset({"/Filter", "/DecodeParms", "/Length", "/Width", "/Height", "/BitsPerComponent"})


def smaller(stream: StreamObject, longest_px: int, quality: int) -> StreamObject:
    """The image as a JPEG with at most ``longest_px`` on its longer side; the stream itself if that saves nothing.

    A stream that is no image is given back too, and so is an image that cannot be decoded. An image of one
    bit keeps its bits unless it must lose pixels; a stencil keeps both.
    """
    if found(stream.get("/Subtype")) != "/Image" or _is_tied(stream):
        return stream
    try:
        made = _stencil(stream) if _is_stencil(stream) else _picture(stream, longest_px, quality)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - what a broken image makes pypdf raise is not known beforehand
        return stream
    return made if made is not None and len(encoded(made)) < len(encoded(stream)) else stream


def _is_tied(image: StreamObject) -> bool:
    """Whether its exact colours or its size have a meaning of their own (8.9.6.4, 11.6.5.3)."""
    mask = found(image.get("/SMask"))
    return (
        isinstance(found(image.get("/Mask")), ArrayObject)
        or "/Matte" in image
        or (isinstance(mask, DictionaryObject) and "/Matte" in mask)
        or bool(found(image.get("/SMaskInData")))
    )


def _is_stencil(image: StreamObject) -> bool:
    return bool(getattr(found(image.get("/ImageMask")), "value", False))


def _stencil(image: StreamObject) -> StreamObject | None:
    return _deflated(image) if not _parameters(image) and set(_filters(image)) <= _PACKINGS else None


def _picture(image: StreamObject, longest_px: int, quality: int) -> StreamObject | None:
    *packings, last = _filters(image) or [""]
    if not set(packings) <= _PACKINGS:
        return None
    if last in _PICTURE_FILES:
        if any("/ColorTransform" in parameters for parameters in _parameters(image)):
            return None
        jpeg = images.recompressed(decoded(image), longest_px, quality)
        space = image.get("/ColorSpace")
        if space is None and last == "/JPXDecode":
            return _with_jpeg(image, jpeg, NameObject(_DEVICE_SPACES[jpeg.components]))
        return _with_jpeg(image, jpeg, space) if _components(found(space)) == jpeg.components else None
    return _from_samples(image, longest_px, quality) if last in _PACKINGS or not last else None


def _from_samples(image: StreamObject, longest_px: int, quality: int) -> StreamObject | None:
    space = found(image.get("/ColorSpace"))
    palette, base = _palette(space)
    if palette is not None and "/Decode" in image:
        return None
    components = _components(found(base))
    if components is None:
        return None
    width, height, bits = (_number(image, key) for key in ("/Width", "/Height", "/BitsPerComponent"))
    layout = Layout(width, height, components, bits, palette)
    if not any("/Predictor" in parameters for parameters in _parameters(image)):
        if bits == 1 and max(width, height) <= longest_px:
            return _deflated(image)
        jpeg = images.compressed(decoded(image), layout, longest_px, quality)
    elif _has_png_rows(image, layout):
        jpeg = images.compressed_png_rows(encoded(image), layout, longest_px, quality)
    else:
        return None
    return _with_jpeg(image, jpeg, base)


def _has_png_rows(image: StreamObject, layout: Layout) -> bool:
    """Whether its bytes are those of a PNG's rows (7.4.4.4)."""
    parameters = _parameters(image)
    return (
        len(parameters) == 1
        and _filters(image) == ["/FlateDecode"]
        and _number(parameters[0], "/Predictor") >= 10
        and _number(parameters[0], "/Columns", 1) == layout.width_px
        and _number(parameters[0], "/Colors", 1) == layout.samples
        and _number(parameters[0], "/BitsPerComponent", 8) == layout.bits
    )


def _with_jpeg(image: StreamObject, jpeg: Jpeg, space: object) -> StreamObject:
    made = _copy_of(image, _REPLACED | {"/ColorSpace"})
    made[NameObject("/Filter")] = NameObject("/DCTDecode")
    made[NameObject("/Width")] = NumberObject(jpeg.width_px)
    made[NameObject("/Height")] = NumberObject(jpeg.height_px)
    made[NameObject("/BitsPerComponent")] = NumberObject(8)
    made[NameObject("/ColorSpace")] = space
    made.set_data(jpeg.data)
    return made


def _deflated(image: StreamObject) -> StreamObject:
    """The same samples, packed better than they were."""
    made = _copy_of(image, {"/Filter", "/DecodeParms", "/Length"})
    made[NameObject("/Filter")] = NameObject("/FlateDecode")
    made.set_data(zlib.compress(decoded(image), 9))
    return made


def _copy_of(image: StreamObject, left_out: frozenset[str] | set[str]) -> StreamObject:
    made = StreamObject()
    for key, value in image.items():
        if key not in left_out:
            made[NameObject(key)] = value
    return made


def _filters(image: StreamObject) -> list[str]:
    value = found(image.get("/Filter"))
    if value is None:
        return []
    return [str(found(item)) for item in (value if isinstance(value, ArrayObject) else [value])]


def _parameters(image: StreamObject) -> list[DictionaryObject]:
    value = found(image.get("/DecodeParms"))
    items = [found(item) for item in (value if isinstance(value, ArrayObject) else [value])]
    return [item for item in items if isinstance(item, DictionaryObject)]


def _components(space: object) -> int | None:
    """How many components a colour of this space has; None if it is not known here."""
    if isinstance(space, ArrayObject) and space:
        family = found(space[0])
        if family == "/ICCBased":
            profile = found(space[1])
            return _number(profile, "/N") if isinstance(profile, DictionaryObject) else None
    else:
        family = space
    return _COMPONENTS.get(str(family))


def _palette(space: object) -> tuple[bytes | None, object]:
    """The palette of an indexed space, and the space that its entries are of; else None and the space."""
    if not (isinstance(space, ArrayObject) and len(space) == 4 and found(space[0]) == "/Indexed"):
        return None, space
    entries = found(space[3])
    match entries:
        case StreamObject():
            return decoded(entries), space[1]
        case TextStringObject():
            return bytes(entries.original_bytes), space[1]
        case ByteStringObject():
            return bytes(entries), space[1]
        case _:
            raise ValueError("a palette of no known kind")


def _number(owner: DictionaryObject, key: str, default: int | None = None) -> int:
    value = found(owner.get(key))
    if value is None and default is not None:
        return default
    if not isinstance(value, int):
        raise TypeError(f"{key} is not a whole number")
    return value
