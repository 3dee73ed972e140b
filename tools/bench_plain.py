"""The script that one would write first, to measure against: pypdf, asyncio, one client, a semaphore.

    python -m tools.bench_plain FOLDER BASE_URL CONCURRENCY

Cuts every page of every PDF, sends it, keeps the answers in memory and writes them at the end. It has no
retries, no ledger, no reports, and starts anew when it is killed.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import httpx
from pypdf import PdfReader, PdfWriter

PROMPT = "Summarize this PDF and list risks to watch."


async def main(folder: Path, base_url: str, concurrency: int) -> None:
    """Send every page and write the answers."""
    semaphore = asyncio.Semaphore(concurrency)
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(base_url=base_url, timeout=600, limits=limits) as client:
        readers = [PdfReader(path) for path in sorted(folder.glob("*.pdf"))]
        tasks = [_send(client, semaphore, reader, number) for reader in readers for number in range(len(reader.pages))]
        answers = await asyncio.gather(*tasks)
    (folder.parent / "plain.json").write_text(json.dumps(answers))


async def _send(client: httpx.AsyncClient, semaphore: asyncio.Semaphore, reader: PdfReader, number: int) -> Any:
    async with semaphore:
        writer = PdfWriter()
        writer.add_page(reader.pages[number])
        buffer = io.BytesIO()
        writer.write(buffer)
        data = base64.b64encode(buffer.getvalue()).decode()
        document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}
        body = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 8000,
            "messages": [{"role": "user", "content": [document, {"type": "text", "text": PROMPT}]}],
        }
        headers = {"authorization": "Bearer none", "anthropic-version": "2023-06-01"}
        response = await client.post("/v1/messages", json=body, headers=headers)
        response.raise_for_status()
        return response.json()["content"][-1]["text"]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
