"""A PDF written by hand: a page whose font says which characters its bytes stand for."""

from __future__ import annotations


def page_of_characters(line: str) -> bytes:
    """A page with these characters from left to right, whatever their script."""
    codes = {character: code for code, character in enumerate(dict.fromkeys(line), 33)}
    pairs = "".join(f"<{code:02x}> <{ord(character):04x}>\n" for character, code in codes.items())
    names = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /A def /CMapType 2 def "
        f"1 begincodespacerange <00> <ff> endcodespacerange {len(codes)} beginbfchar\n{pairs}endbfchar endcmap end end"
    )
    content = f"BT /F 12 Tf 60 700 Td <{bytes(codes[character] for character in line).hex()}> Tj ET"
    bodies = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F 4 0 R >> >> /Contents 5 0 R >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Courier /ToUnicode 6 0 R >>",
        *(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream" for stream in (content, names)),
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("ascii")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(bodies) + 1
    head, trailer = f"xref\n0 {size}\n0000000000 65535 f \n", f"trailer << /Size {size} /Root 1 0 R >>\n"
    return out + f"{head}{table}{trailer}startxref\n{len(out)}\n%%EOF\n".encode("ascii")
