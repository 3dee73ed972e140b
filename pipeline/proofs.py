"""Proofs as JSON, as the ledger keeps them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pipeline.domain import Box, Change, ChunkProof, Proof, QuoteCheck, Risk, Severity


def dumped(proof: ChunkProof) -> str:
    """JSON of a proof; boxes are lists of four numbers."""
    plain = asdict(proof)
    for item in (*plain["proofs"], *plain["planted"]):
        item["boxes"] = [list(box.values()) for box in item["boxes"]]
    return json.dumps(plain, allow_nan=False, separators=(",", ":"))


def loaded(text: str) -> ChunkProof:
    """The proof that ``dumped`` wrote."""
    plain = json.loads(text)
    return ChunkProof(tuple(map(_proof, plain["proofs"])), tuple(map(_risk, plain["planted"])))


def _proof(plain: dict[str, Any]) -> Proof:
    return Proof(QuoteCheck(plain["check"]), plain["page"], plain["found"], _boxes(plain))


def _risk(plain: dict[str, Any]) -> Risk:
    check, change = plain["quote_check"], plain["change"]
    typed = {
        "severity": Severity(plain["severity"]),
        "quote_check": QuoteCheck(check) if check is not None else None,
        "change": Change(change) if change is not None else None,
        "boxes": _boxes(plain),
    }
    return Risk(**{**plain, **typed})


def _boxes(plain: dict[str, Any]) -> tuple[Box, ...]:
    return tuple(Box(*sides) for sides in plain["boxes"])
