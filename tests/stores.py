"""Stores in memory that have the ways of libraries which cannot be tried against their own stores here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fsspec.asyn import AsyncFileSystem

from pipeline import storage


class MemoryStore(AsyncFileSystem):  # type: ignore[misc]
    """Objects by path, ``container/key``, in the containers of ``objects`` alone."""

    cachable = False

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__()
        self.objects = objects

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.partition("://")[2] or path

    async def _find(self, path: str, **_: object) -> dict[str, dict[str, Any]]:
        start = self._strip_protocol(path) + "/"
        return {name: await self._info(name) for name in self.objects if name.startswith(start)}

    async def _info(self, path: str, **_: object) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path in {name.partition("/")[0] for name in self.objects}:
            return {"name": path, "size": None, "type": "directory"}
        return {"name": path, "size": len(self._data(path)), "type": "file", "mtime": "2026-01-01T00:00:00Z"}

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
        return self._data(path)[start:end]

    async def _get_file(self, path: str, target: str, **_: object) -> None:
        await asyncio.to_thread(Path(target).write_bytes, self._data(path))

    async def _put_file(self, file: str, path: str, **_: object) -> None:
        self.objects[self._strip_protocol(path)] = await asyncio.to_thread(Path(file).read_bytes)

    async def _rm_file(self, path: str, **_: object) -> None:
        self._data(path)
        del self.objects[self._strip_protocol(path)]

    def _data(self, path: str) -> bytes:
        try:
            return self.objects[self._strip_protocol(path)]
        except KeyError:
            raise FileNotFoundError(path) from None


class AzureStore(MemoryStore):
    """As adlfs: a container that is not there has nothing in it; etags have quotes when one file is asked for."""

    async def _find(self, path: str, **more: object) -> dict[str, dict[str, Any]]:
        found = await super()._find(path, **more)
        return {name: {**info, "etag": info["etag"].strip('"')} for name, info in found.items()}

    async def _info(self, path: str, **more: object) -> dict[str, Any]:
        return {**await super()._info(path, **more), "etag": '"0x8DE"'}


class GoogleStore(MemoryStore):
    """As gcsfs: what could not be finished is removed. The first try of each file breaks off."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self._tried: set[str] = set()

    async def _get_file(self, path: str, target: str, **_: object) -> None:
        await super()._get_file(path, target)
        if path not in self._tried:
            self._tried.add(path)
            await asyncio.to_thread(Path(target).unlink)
            raise ConnectionResetError


def use(monkeypatch: pytest.MonkeyPatch, store: MemoryStore) -> None:
    """Have every URL be one of this store's."""
    monkeypatch.setattr(storage, "_filesystem", lambda scheme: store)
