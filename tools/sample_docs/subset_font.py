"""Makes the committed font anew: ``python -m tools.sample_docs.subset_font DroidSansFallbackFull.ttf``.

Needed only when a Chinese text gains a character. The full font is Debian's package fonts-droid-fallback.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fontTools import subset

from tools.sample_docs.contracts import CONTRACTS, text_of
from tools.sample_docs.typeset import CHINESE, SUBSET_FONT


def main() -> None:
    looks = {contract.text: contract.look for contract in CONTRACTS}
    words = "".join(text_of(text) for text, look in looks.items() if look == CHINESE)
    options = subset.Options(
        layout_features=[], hinting=False, notdef_outline=True, recalc_timestamp=False, name_IDs=["*"]
    )
    options.drop_tables += ["GDEF", "GPOS", "GSUB", "vhea", "vmtx"]
    font = subset.load_font(sys.argv[1], options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=words + CHINESE.page_label)
    subsetter.subset(font)
    subset.save_font(font, str(SUBSET_FONT), options)
    print(f"{SUBSET_FONT}: {Path(SUBSET_FONT).stat().st_size} bytes")


if __name__ == "__main__":
    main()
