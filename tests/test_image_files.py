"""Images as documents, from the folder to the request: what goes out, page by page, and what is named as broken."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat

from pipeline import image_files, inspector, job, run
from pipeline.domain import DocumentStatus, MediaType, PageRange, RunResult
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.pdf import Depicted, ImageError, Inspection, Source, SourceChangedError
from pipeline.serve import Endpoint, running
from tests.conftest import Quiet, Workspace, clause, write_pdf

SIZE = 200, 300
IMAGES = ["**/*.{png,jpg,jpeg,gif,webp,tif,tiff}"]
ORIENTATION = 274
ROOM = 20_000_000


def page(number: int = 1, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    """A page with a black bar along its top and as many squares below as its number."""
    draw = ImageDraw.Draw(image := Image.new("RGB", size, "white"))
    unit = size[0] // 10
    draw.rectangle((0, 0, size[0], unit), fill="black")
    for place in range(number):
        draw.rectangle((unit * 2 * place + unit, unit * 3, unit * 2 * place + unit * 2, unit * 4), fill="black")
    return image.convert(mode)


def noise(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.frombytes(mode, size, random.Random(1).randbytes(size[0] * size[1] * len(mode)))


def file_of(image: Image.Image, kind: str, **more: Any) -> bytes:
    image.save(out := io.BytesIO(), kind, **more)
    return out.getvalue()


def tiff(*pages: Image.Image, **more: Any) -> bytes:
    return file_of(pages[0], "TIFF", save_all=True, append_images=pages[1:], **more)


def turned(degrees: int) -> dict[str, Any]:
    """EXIF that says how the picture must be turned."""
    (exif := Image.Exif())[ORIENTATION] = {0: 1, 180: 3, 270: 6, 90: 8}[degrees]
    return {"exif": exif}


def source_of(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    stat = path.stat()
    return Source(str(path), stat.st_size, stat.st_mtime_ns)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def depicted(tmp_path: Path, data: bytes, pages: PageRange | None = None, **more: Any) -> list[bytes]:
    """The pictures that go out for pages of a file."""
    source, target = source_of(tmp_path / "file", data), tmp_path / "target"
    settings = {"room_bytes": ROOM, "halved": False, **more}
    seen = image_files.depict(source, pages or PageRange(1, 1), target, **settings)
    assert seen is not None
    if seen.unchanged:
        assert not target.exists()
        return [data]
    stream = io.BytesIO(target.read_bytes())
    pictures = [stream.read(picture.size_bytes) for picture in seen.pictures]
    assert stream.read() == b""
    assert [Image.MIME[opened(picture).format or ""] for picture in pictures] == [p.media_type for p in seen.pictures]
    return pictures


def is_like(picture: bytes, original: Image.Image) -> bool:
    """Whether it shows the same, up to the artefacts of a JPEG and other sizes."""
    shown, expected = opened(picture).convert("L"), original.convert("L")
    difference = ImageChops.difference(shown.resize(SIZE), expected.resize(SIZE))
    ratio = shown.width / shown.height / (expected.width / expected.height)
    return ImageStat.Stat(difference).mean[0] < 4 and abs(ratio - 1) < 0.02


def sent_images(endpoint: Endpoint) -> Iterator[list[tuple[str, bytes]]]:
    """Of each request with images, their media types and bytes."""
    for seen in endpoint.seen:
        blocks = seen.body["messages"][0]["content"]
        images = [block["source"] for block in blocks if block["type"] == "image"]
        if images:
            yield [(source["media_type"], base64.b64decode(source["data"])) for source in images]


def words_of(body: Any) -> list[str]:
    blocks = body["messages"][0]["content"]
    return [block["text"] if block["type"] == "text" else "IMAGE" for block in blocks]


def read(workspace: Workspace, endpoint: Endpoint, **sections: Any) -> RunResult:
    """One run over all images of the folder."""
    with running(endpoint) as base_url:
        workspace.write_job(base_url, **{"source": {"include": IMAGES}, **sections})
        return workspace.run()


# --- the whole path

AS_THEY_ARE = {
    "a.png": ("image/png", file_of(page(), "PNG")),
    "b.jpg": ("image/jpeg", file_of(page(), "JPEG")),
    "c.gif": ("image/gif", file_of(page(mode="P"), "GIF")),
    "d.webp": ("image/webp", file_of(page(), "WEBP")),
    "opaque.png": ("image/png", file_of(page(mode="RGBA"), "PNG")),
    "upright.jpg": ("image/jpeg", file_of(page(2), "JPEG", **turned(0))),
}


def test_an_image_that_the_api_takes_is_sent_byte_for_byte(workspace: Workspace) -> None:
    """PNG, JPEG, GIF and WebP go out as they lie there, each as one page; nothing is left in the spool folder."""
    for name, (_, data) in AS_THEY_ARE.items():
        (workspace.docs / name).write_bytes(data)
    endpoint = Endpoint(keep_bodies=True)
    result = read(workspace, endpoint)

    assert sorted(images for [images] in sent_images(endpoint)) == sorted(AS_THEY_ARE.values())
    assert [(d.pages, d.status) for d in result.documents] == [(1, DocumentStatus.DONE)] * len(AS_THEY_ARE)
    assert {risk.category for d in result.documents for risk in d.risks} == {"unreadable"}  # rules read no pixels
    assert result.run.exit_code == 0


def test_by_default_images_are_no_documents(workspace: Workspace) -> None:
    """A logo beside the contracts costs nothing."""
    (workspace.docs / "logo.png").write_bytes(file_of(page(), "PNG"))
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    endpoint = Endpoint(keep_bodies=True)
    result = read(workspace, endpoint, source={})

    assert [document.path for document in result.documents] == ["a.pdf"]


def test_the_pages_of_a_tiff_are_pictures_in_page_order(workspace: Workspace) -> None:
    """Cut into chunks as a PDF is; each picture is named before it, and the text says which pages they are."""
    pages = [page(number, mode) for number, mode in enumerate(("1", "L", "RGB", "P", "1"), 1)]
    (workspace.docs / "scan.tif").write_bytes(tiff(*pages))
    endpoint = Endpoint(keep_bodies=True)
    result = read(workspace, endpoint, split={"max_pages": 3}, workers={"concurrency": 1})

    chunks = list(sent_images(endpoint))
    assert [[kind for kind, _ in images] for images in chunks] == [
        ["image/png", "image/jpeg", "image/jpeg"],
        ["image/png", "image/png"],
    ]
    sent = [picture for images in chunks for _, picture in images]
    assert all(is_like(picture, original) for picture, original in zip(sent, pages, strict=True))
    names = words_of(endpoint.seen[1].body)
    assert names[:-1] == ["Page 1:", "IMAGE", "Page 2:", "IMAGE"]
    assert "The attached pictures show pages 4-5 of a document of 5 pages." in names[-1]
    assert "the first is page 1" in names[-1]
    assert result.documents[0].pages_covered == 5
    assert len(endpoint.seen) == 3  # and the summary of the whole


def test_twins_are_paid_once_whatever_their_names(workspace: Workspace) -> None:
    """What a file is follows from its bytes: a PNG named .jpg or .pdf is a PNG, a PDF named .png is a PDF."""
    data = file_of(page(), "PNG")
    for name in ("a.pdf", "b.jpg", "c.png"):
        (workspace.docs / name).write_bytes(data)
    write_pdf(workspace.docs / "d.pdf", [clause(7)]).rename(workspace.docs / "d.png")
    endpoint = Endpoint(keep_bodies=True)
    result = read(workspace, endpoint, source={"include": ["*"]})

    assert list(sent_images(endpoint)) == [[("image/png", data)]]
    assert len(endpoint.seen) == 2
    assert [d.status for d in result.documents] == [DocumentStatus.DONE] * 4
    assert [risk.page for risk in result.documents[3].risks] == [1]


def test_a_second_run_sends_no_image_again(workspace: Workspace) -> None:
    """The books know them as images."""
    (workspace.docs / "a.png").write_bytes(AS_THEY_ARE["a.png"][1])
    (workspace.docs / "scan.tif").write_bytes(tiff(page(1, "1"), page(2, "1")))
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, source={"include": IMAGES})
        first, second = workspace.run(), workspace.run()

    assert (first.spending.requests, second.spending.requests) == (2, 0)
    assert [document.pages for document in second.documents] == [1, 2]


def test_the_plan_counts_images_as_pages(workspace: Workspace) -> None:
    """Each with the tokens of an image; a large file of many pages is not cut for its own bytes."""
    (workspace.docs / "a.png").write_bytes(AS_THEY_ARE["a.png"][1])
    (workspace.docs / "scan.tif").write_bytes(tiff(*(page(number, "1") for number in range(1, 4))))
    (workspace.docs / "wide.tif").write_bytes(tiff(noise(size=(900, 900)), noise(size=(900, 900))))
    (workspace.docs / "z.png").write_bytes(b"\x89PNG")
    workspace.write_job(source={"include": IMAGES}, split={"max_request_mb": 3})
    one, three, wide, broken = run.plan_job(job.load(workspace.job_file), Quiet())

    assert [(d.pages, d.chunks) for d in (one, three, wide, broken)] == [(1, 1), (3, 1), (2, 1), (0, 0)]
    assert (
        three.usage.input_tokens - one.usage.input_tokens
    ) == 2 * 1568  # the endpoint's model is an old one by its name
    assert broken.reason == "not a PDF: the file holds something else"


def test_what_does_not_fit_into_one_request_goes_into_the_next(workspace: Workspace) -> None:
    """As many pictures as fit; each page is sent once, and no request is larger than the job allows."""
    (workspace.docs / "scan.tif").write_bytes(tiff(*(noise(size=(600, 600)) for _ in range(5))))
    endpoint = Endpoint(keep_bodies=True)
    result = read(workspace, endpoint, split={"max_request_mb": 1.0})

    sizes = [len(images) for images in sent_images(endpoint)]
    assert sum(sizes) == 5
    assert all(is_like(data, noise(size=(600, 600))) for images in sent_images(endpoint) for _, data in images)
    assert len(sizes) > 1
    assert max(len(json.dumps(seen.body)) for seen in endpoint.seen) <= 1_010_000  # spaces that were not sent
    assert result.documents[0].status is DocumentStatus.DONE


def test_a_broken_page_of_a_tiff_stands_alone(workspace: Workspace) -> None:
    """The others are delivered, and the reason names it."""
    data = bytearray(tiff(page(1), page(2), page(3), compression="tiff_adobe_deflate"))
    strips = opened_tags(data)
    data[strips[1] : strips[1] + 20] = bytes(20)
    (workspace.docs / "scan.tif").write_bytes(data)
    result = read(workspace, Endpoint())

    [document] = result.documents
    assert document.missing_pages == (PageRange(2, 2),)
    assert document.reason is not None
    assert document.reason.startswith("page 2: a broken picture: ")
    assert result.run.exit_code == 3


def opened_tags(data: bytes | bytearray) -> list[int]:
    """Where the first strip of each page of a TIFF lies."""
    places = []
    with Image.open(io.BytesIO(data)) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            places.append(image.tag_v2[273][0])  # type: ignore[attr-defined]
    return places


def test_a_picture_that_the_api_takes_for_too_large_is_sent_with_half_of_its_bytes(workspace: Workspace) -> None:
    """Once, and the chunk says so."""
    data = file_of(Image.blend(page(), noise(), 0.1), "JPEG", quality=98)
    (workspace.docs / "a.jpg").write_bytes(data)
    endpoint = Endpoint(
        FaultPlan((FaultRule(Fault(FaultKind.PROMPT_TOO_LONG), requests=frozenset({1})),)), keep_bodies=True
    )
    result = read(workspace, endpoint)

    [[(_, first)], [(_, second)]] = sent_images(endpoint)
    assert first == data
    assert len(second) <= len(data) / 2
    assert is_like(second, opened(data))
    assert result.documents[0].chunks[0].reason == "page 1 was too large for the API: it was sent smaller"


# --- what a picture becomes


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_turned_picture_goes_out_upright(tmp_path: Path, kind: str, degrees: int) -> None:
    """As a viewer shows it; the bar is at the top again."""
    lying = page(3).rotate(-degrees, expand=True)
    more = turned(degrees) if kind != "TIFF" else {"tiffinfo": {ORIENTATION: turned(degrees)["exif"][ORIENTATION]}}
    [picture] = depicted(tmp_path, file_of(lying, kind, **more))

    assert is_like(picture, page(3))
    assert ORIENTATION not in opened(picture).getexif()


def clear(mode: str) -> Image.Image:
    """The page in black on nothing."""
    image = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    image.paste("black", mask=ImageChops.invert(page(2, "L")))
    return image.convert(mode)


def gray16() -> Image.Image:
    """The page in the lower quarter of 16 bits."""
    samples = b"".join(struct.pack("<H", value * 64) for value in page(2, "L").tobytes())
    return Image.frombytes("I;16", SIZE, samples)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (file_of(clear("RGBA"), "PNG"), "JPEG"),
        (file_of(clear("RGBA").quantize(4), "PNG"), "JPEG"),
        (file_of(clear("LA"), "PNG"), "JPEG"),
        (file_of(clear("RGBA"), "WEBP"), "JPEG"),
        (file_of(clear("RGBA"), "TIFF"), "JPEG"),
        (file_of(page(2, "CMYK"), "JPEG"), "JPEG"),
        (file_of(page(2, "CMYK"), "TIFF"), "JPEG"),
        (file_of(page(2, "1"), "TIFF", compression="group4"), "PNG"),
        (file_of(page(2, "P"), "TIFF"), "PNG"),
        (file_of(page(2), "TIFF", compression="jpeg"), "JPEG"),
        (file_of(gray16(), "TIFF"), "JPEG"),
        (file_of(page(2, "F"), "TIFF"), "JPEG"),
        (file_of(page(2, "I"), "TIFF"), "JPEG"),
        (file_of(page(2, "YCbCr"), "TIFF"), "JPEG"),
    ],
)
def test_pictures_of_every_kind_show_what_people_see(tmp_path: Path, data: bytes, kind: str) -> None:
    """Transparent is white, four colours become three, and 16 bits eight."""
    [picture] = depicted(tmp_path, data)

    assert opened(picture).format == kind
    assert is_like(picture, page(2))


def test_pixels_of_a_fax_become_square(tmp_path: Path) -> None:
    """Twice as many to the inch across as down, also where the page lies on its side."""
    flat = page(2).resize((SIZE[0], SIZE[1] // 2))
    [upright] = depicted(tmp_path, file_of(flat, "TIFF", dpi=(204, 102)))
    lying = page(2).rotate(90, expand=True).resize((SIZE[1], SIZE[0] // 2))
    [turned_up] = depicted(tmp_path, file_of(lying, "TIFF", dpi=(204, 102), tiffinfo={ORIENTATION: 6}))

    assert is_like(upright, page(2))
    assert is_like(turned_up, page(2))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_picture_over_8000_pixels_gets_fewer(tmp_path: Path, kind: str, mode: str) -> None:
    """At most 4000 on its longer side, which is more than any model is shown."""
    original = page(2, mode, (100, 8001)) if mode != "RGB" else page(2, mode, (8001, 100))
    [picture] = depicted(tmp_path, file_of(original, kind))

    assert max(opened(picture).size) == 4000
    assert abs(max(opened(picture).size) / min(opened(picture).size) - 80) < 2


def test_a_file_over_5_mb_in_base64_is_made_smaller(tmp_path: Path) -> None:
    """Whether it is one the API takes or not."""
    data = file_of(noise(size=(1200, 1200)), "PNG")
    assert len(data) > image_files.MOST_IMAGE_BYTES
    for file in (data, file_of(noise(size=(1200, 1200)), "TIFF")):
        [picture] = depicted(tmp_path, file)
        assert len(picture) <= image_files.MOST_IMAGE_BYTES
        assert opened(picture).size == (1200, 1200)


def test_many_pictures_in_one_request_are_smaller(workspace: Workspace) -> None:
    """Of more than 20 the API takes none with over 2000 pixels on a side; the endpoint refuses it, too."""
    (workspace.docs / "scan.tif").write_bytes(tiff(*[page(1, "1", (2100, 40))] * 21))
    endpoint = Endpoint(keep_bodies=True)
    result = read(workspace, endpoint, split={"max_pages": 30})

    [images] = sent_images(endpoint)
    assert [opened(data).width for _, data in images] == [2000] * 21
    assert result.run.exit_code == 0


def test_an_animation_is_its_first_image(tmp_path: Path) -> None:
    """One page, and a note says why."""
    for kind, mode in (("GIF", "P"), ("WEBP", "RGB"), ("PNG", "RGB")):
        data = file_of(page(1, mode), kind, save_all=True, append_images=[page(4, mode)])
        seen = inspector.inspect(source_of(tmp_path / "film", data))
        assert (seen.pages, seen.note) == (1, "an animation: its first image is taken for the page")
        [picture] = depicted(tmp_path, data)
        assert is_like(picture, page(1))
        assert getattr(opened(picture), "n_frames", 1) == 1


def test_previews_and_masks_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    """What a file says to be a smaller copy of another image, or a mask for it, is neither counted nor sent."""
    images = [page(1, "1"), page(1, "1", (20, 30)), page(2, "1"), page(2, "1")]
    for image, kind in zip(images, (0, 1, 2, 4), strict=True):
        image.encoderinfo = {"tiffinfo": {254: kind}}
    data = tiff(*images, tiffinfo={254: 0})
    assert inspector.inspect(source_of(tmp_path / "file", data)).pages == 2
    assert all(
        is_like(picture, page(number)) for number, picture in enumerate(depicted(tmp_path, data, PageRange(1, 2)), 1)
    )


def test_a_file_of_previews_alone_has_no_page(tmp_path: Path) -> None:
    """It is named, for a document without pages would be done at once."""
    data = file_of(page(), "TIFF", tiffinfo={254: 1})
    assert inspector.inspect(source_of(tmp_path / "file", data)).problem == "the file has no image that is a page"


def test_a_camera_picture_with_a_preview_behind_it_is_one_page(tmp_path: Path) -> None:
    """It goes out as the JPEG that it is, without a note."""
    data = file_of(page(1), "MPO", save_all=True, append_images=[page(2)])
    seen = inspector.inspect(source_of(tmp_path / "file", data))

    assert (seen.pages, seen.note, seen.media_type) == (1, None, MediaType.JPEG)
    assert depicted(tmp_path, data) == [data]


# --- what is broken


def huge_png() -> bytes:
    """The head of a picture of 40,000 x 40,000 pixels."""
    data = bytearray(file_of(page(), "PNG"))
    data[16:24] = struct.pack(">II", 40_000, 40_000)
    return bytes(data[:29]) + struct.pack(">I", zlib.crc32(bytes(data[12:29]))) + bytes(data[33:])


BROKEN = {
    "nothing.png": (b"", "the file is empty"),
    "page.png": (b"<!doctype html><html>Sign in</html>", "not a PDF: the file holds an HTML page"),
    "head.png": (b"\x89PNG\r\n\x1a\n", "a broken picture: its beginning cannot be read"),
    "head.jpg": (b"\xff\xd8\xff\xe0", "a broken picture: its beginning cannot be read"),
    "head.gif": (b"GIF89a", "a broken picture: its beginning cannot be read"),
    "head.webp": (b"RIFF\x10\0\0\0WEBP", "a broken picture: its beginning cannot be read"),
    "head.tif": (b"II*\0", "a broken picture: its beginning cannot be read"),
    "cut.png": (file_of(noise(), "PNG")[:20_000], "a broken picture: image file is truncated"),
    "cut.jpg": (file_of(noise(), "JPEG")[:5_000], "a broken picture: image file is truncated"),
    "cut.gif": (file_of(noise("L"), "GIF")[:20_000], "a broken picture: image file is truncated"),
    "cut.webp": (file_of(noise(), "WEBP")[:5_000], "a broken picture: "),
    "cut.tif": (tiff(page(1), page(2), page(3))[:300_000], "a broken picture: "),
    "strip.tif": (tiff(page(1))[:90_000], "a broken picture: "),
    "bomb.png": (huge_png(), "40000 x 40000 pixels are too many"),
    "photo.heic": (b"\0\0\0\x18ftypheic", "not a PDF: the file holds something else"),
}


def test_what_cannot_be_read_is_named(workspace: Workspace) -> None:
    """Nothing is sent for it, nothing crashes, and what is whole beside it is read."""
    for name, (data, _) in BROKEN.items():
        (workspace.docs / name).write_bytes(data)
    (workspace.docs / "whole.png").write_bytes(AS_THEY_ARE["a.png"][1])
    endpoint = Endpoint(keep_bodies=True)
    result = read(workspace, endpoint, source={"include": ["*"]})

    reasons = {document.path: document.reason or "" for document in result.documents}
    wrong = {name: reasons[name] for name, (_, reason) in BROKEN.items() if not reasons[name].startswith(reason)}
    assert wrong == {}
    assert not any("0x" in reason or "\n" in reason for reason in reasons.values())
    assert [d.path for d in result.documents if d.status is DocumentStatus.DONE] == ["whole.png"]
    assert len(endpoint.seen) == 1


def test_rows_of_a_fax_that_are_damaged_stay_damaged_and_no_library_writes_about_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As every viewer shows them; the mail of a nightly run has no line for each row."""
    data = bytearray(file_of(page(2, "1"), "TIFF", compression="group3"))
    [strip] = opened_tags(data)
    data[strip + 40 : strip + 60] = bytes(20)
    assert depicted(tmp_path, bytes(data))
    assert capfd.readouterr() == ("", "")


def test_a_large_scan_in_black_and_white_is_no_bomb(tmp_path: Path) -> None:
    """10,000 x 15,000 pixels become a page in the time that a few pages take."""
    data = file_of(Image.new("1", (10_000, 15_000), 1), "TIFF", compression="group4")
    [picture] = depicted(tmp_path, data)
    assert max(opened(picture).size) == 4000


def test_a_file_that_changed_is_not_read(tmp_path: Path) -> None:
    """Its pages would be filed under another hash."""
    source = source_of(tmp_path / "a.png", AS_THEY_ARE["a.png"][1])
    os.utime(source.path, ns=(1, 1))
    with pytest.raises(SourceChangedError):
        image_files.depict(source, PageRange(1, 1), tmp_path / "target", ROOM, False)
    with pytest.raises(SourceChangedError):
        inspector.inspect(source)


def test_a_file_too_large_for_memory_is_named(tmp_path: Path) -> None:
    """It is not even read."""
    with (tmp_path / "large.tif").open("wb") as file:
        file.write(b"II*\0")
        file.truncate(500_000_001)
    stat = (tmp_path / "large.tif").stat()
    seen = inspector.inspect(Source(str(tmp_path / "large.tif"), stat.st_size, stat.st_mtime_ns))
    assert seen == Inspection(None, problem="the image file is larger than 500 MB")


def test_what_fails_leaves_no_file(tmp_path: Path) -> None:
    """A page that is broken, not there, or too large for the room."""
    source, target = source_of(tmp_path / "scan.tif", tiff(noise(), noise())), tmp_path / "target"
    with pytest.raises(ImageError, match="the file has 2 pages"):
        image_files.depict(source, PageRange(2, 3), target, ROOM, False)
    assert image_files.depict(source, PageRange(1, 2), target, 300, False) is None
    broken = source_of(tmp_path / "broken.tif", tiff(page(1), page(2))[: -SIZE[0] * 3])
    with pytest.raises(ImageError):
        image_files.depict(broken, PageRange(1, 2), target, ROOM, False)
    assert not target.exists()


def test_the_same_pages_are_the_same_bytes(tmp_path: Path) -> None:
    """And as many of them as fit."""
    data = tiff(noise(), noise("L"), noise())
    first, again = (depicted(tmp_path, data, PageRange(1, 3)) for _ in range(2))
    assert first == again
    room = sum((len(picture) + 2) // 3 * 4 for picture in first[:2])
    seen = image_files.depict(source_of(tmp_path / "f", data), PageRange(1, 3), tmp_path / "t", room, False)
    assert isinstance(seen, Depicted)
    assert seen.pages == PageRange(1, 2)
