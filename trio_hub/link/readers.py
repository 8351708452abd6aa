"""Which reader a link's frames take: the quick one where it will do, or one that knows dialects, or pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trio_hub.errors import Misuse
from trio_hub.options import LinkOptions
from trio_hub.wire.deflate import Inflater
from trio_hub.wire.pieces import PieceReader, WholeReader
from trio_hub.wire.reading import FrameReader

if TYPE_CHECKING:
    from trio_hub.wire.sealing import Seal

__all__ = ["pieces_from", "reader_for"]


def reader_for(
    options: LinkOptions, *, client: bool, inflater: Inflater | None, seal: Seal | None, streams: bool
) -> FrameReader | WholeReader:
    """Return what reads whole messages."""
    if options.dialect.is_standard:
        return FrameReader(
            masked=not client,
            max_message=options.max_message,
            max_fragments=options.max_fragments,
            inflater=inflater,
        )
    again = None if inflater is None else inflater.again if options.dialect.is_webson else lambda: inflater
    pieces = _piece_reader(options, client=client, inflater=again, seal=seal, streams=streams)
    return WholeReader(pieces, max_message=options.max_message)


def pieces_from(reader: FrameReader | WholeReader, options: LinkOptions, *, client: bool) -> tuple[PieceReader, bytes]:
    """Return what reads pieces from where `reader` stopped, and what is to be fed to it first.

    Raises `Misuse` where that was within a message.
    """
    if reader.is_within_message:
        raise Misuse("a message is partly read already: take messages piece by piece before any other `receive`")
    if isinstance(reader, WholeReader):
        return reader.pieces, b""
    inflater = reader.inflater
    again = (lambda: inflater) if inflater is not None else None
    pieces = _piece_reader(options, client=client, inflater=again)
    pieces.fault = reader.fault
    return pieces, reader.take_waiting()


def _sealed_size(options: LinkOptions, seal: Seal) -> int:
    """Return the largest frame there may be: a whole message goes in one, and is longer by its seal."""
    return max(options.max_frame, options.max_message) + seal.sealer.overhead


def _piece_reader(
    options: LinkOptions,
    *,
    client: bool,
    inflater: Callable[[], Inflater] | None,
    seal: Seal | None = None,
    streams: bool = False,
) -> PieceReader:
    return PieceReader(
        options.dialect,
        client=client,
        max_frame=options.max_frame if seal is None else _sealed_size(options, seal),
        max_inflated=options.max_message,
        inflater=inflater,
        opener=seal.opener if seal is not None else None,
        streams=streams,
    )
