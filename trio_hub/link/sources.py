"""Whatever a large message may come from, in pieces of bounded size."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Final, Protocol

import trio

from trio_hub.errors import Misuse
from trio_hub.messages import Kind
from trio_hub.wire.frames import utf8

__all__ = ["File", "Source", "encoded", "pieces_of"]

_READ: Final = 64 * 1024  # a file's part, at least: the thread that reads it costs as much as reading that


class File(Protocol):
    """A file, opened in binary mode for binary messages and in text mode for text."""

    def read(self, size: int, /) -> str | bytes:
        """Return about so much; nothing at the end. Called in a thread, as files make their readers wait."""
        ...


Bytes = bytes | bytearray | memoryview
Source = str | Bytes | AsyncIterable[str | Bytes] | Iterable[str | Bytes] | File
"""What a large message may come from."""


async def pieces_of(kind: int, source: Source, size: int) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of `source`, none of it kept, in pieces of at most `size` bytes and never empty.

    An async generator is closed in the end, wherever it has come to. Raises `Misuse` where it has no text for a message
    of text, or text for another, and whatever the source raises.
    """
    async with aclosing(_chunks_of(source, max(size, _READ))) as chunks:
        async for chunk in chunks:
            data = encoded(kind, chunk)
            for at in range(0, len(data), size):
                yield data[at : at + size]


async def _chunks_of(source: Source, read_size: int) -> AsyncGenerator[str | Bytes, None]:
    if isinstance(source, str | bytes):
        yield source
    elif isinstance(source, bytearray | memoryview):
        if isinstance(source, memoryview) and not source.c_contiguous:
            raise Misuse("a message cannot come from a memoryview with gaps: make `bytes` of it")
        with memoryview(source).cast("B") as view:
            for at in range(0, len(view), read_size):
                yield bytes(view[at : at + read_size])
    elif (read := _reader_of(source)) is not None:
        while part := await trio.to_thread.run_sync(read, read_size):
            yield part
        if part is None:  # or a short message would look whole
            raise Misuse("a file must wait for what it has not got yet: open it so that reading blocks")
    elif isinstance(source, AsyncIterable):
        async with _closed_after(source) as chunks:
            async for chunk in chunks:
                yield chunk
    elif isinstance(source, Iterable):
        for chunk in source:
            yield chunk
    else:
        raise Misuse(f"a message cannot come from {type(source).__name__}: it is no text, bytes, iterable or file")


def _reader_of(source: object) -> Callable[[int], str | bytes | None] | None:
    """Return what reads from a file, or from that of a `trio.wrap_file`; None where the source is none."""
    wrapped = getattr(source, "wrapped", None)
    if wrapped is None and isinstance(source, AsyncIterable):
        return None
    read: Callable[[int], str | bytes | None] | None = getattr(wrapped or source, "read", None)
    return read


@asynccontextmanager
async def _closed_after(source: AsyncIterable[str | Bytes]) -> AsyncIterator[AsyncIterator[str | Bytes]]:
    """Iterate, and close what is a generator, wherever it has come to."""
    chunks = aiter(source)
    if isinstance(chunks, AsyncGenerator):
        async with aclosing(chunks):
            yield chunks
    else:
        yield chunks


def encoded(kind: int, chunk: str | Bytes) -> bytes:
    """Return the bytes of (a part of) a message of this kind. Raises `Misuse` where it is not made of that."""
    if isinstance(chunk, str) is not (kind == Kind.TEXT) or not isinstance(chunk, str | Bytes):
        wanted = "str" if kind == Kind.TEXT else "bytes"
        raise Misuse(f"a message of kind {kind} is made of {wanted}, not {type(chunk).__name__}")
    return utf8(chunk) if isinstance(chunk, str) else bytes(chunk)  # which copies no bytes
