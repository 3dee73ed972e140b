"""What a file is by its own bytes, whatever its name says, and what of it is to be known before a plan is made.

Everything here runs in a worker process (see ``sandbox``).
"""

from __future__ import annotations

from pathlib import Path

from pipeline import splitter
from pipeline.pdf import Inspection, Source

_PDF = b"%PDF-"  # no image begins so


def inspect(source: Source, with_layout: bool = True) -> Inspection:
    """Open a file as the image that it is, else as a PDF, count its pages and see what is on them.

    The answer is kept with the content, which may lie under several names: so no name can have a part in it.
    Without the layout no native code reads a PDF.

    Raises:
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read.
    """
    with Path(source.path).open("rb") as file:
        if file.read(len(_PDF)) != _PDF:
            from pipeline import image_files  # Pillow's formats take 0.05 s to load, and most folders hold no images

            file.seek(0)
            if image_files.media_type(file.read(image_files.HEAD_BYTES)) is not None:
                return image_files.inspect(source)
    return splitter.inspect(source, with_layout)
