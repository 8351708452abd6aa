"""Sealed frames: what the other end says, or a fault; never anything in between."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_hub.dialect import Dialect
from trio_hub.errors import Misuse, PeerFault
from trio_hub.messages import CloseReason
from trio_hub.wire.framing import Framer
from trio_hub.wire.pieces import Piece, PieceReader
from trio_hub.wire.sealing import Seal, new_nonce, read_nonce, sealed_by

FIN = 0x80
KEY = bytes(range(32))
DIALECT = Dialect.sealed(KEY)


def ends(secret: bytes = KEY, nonces: tuple[str, str] | None = None) -> tuple[Seal, Seal]:
    nonces = nonces or (new_nonce(), new_nonce())
    return sealed_by(secret, *nonces, client=True), sealed_by(secret, *nonces, client=False)


def talk(*, frames: int = 3, max_frame: int = 1000) -> tuple[list[bytes], PieceReader]:
    """What a server said, frame by frame, and its client's reader."""
    client, server = ends()
    framer = Framer(DIALECT, client=False, sealer=server.sealer)
    said = [framer.messages([f"number {number}"])[0] for number in range(frames)]
    return said, PieceReader(DIALECT, client=True, max_frame=max_frame, opener=client.opener)


def heard(reader: PieceReader, *frames: bytes) -> list[Any]:
    return [item.data for frame in frames for item in reader.feed(frame) if isinstance(item, Piece)]


def test_what_is_sealed_is_opened_and_nothing_of_it_can_be_seen():
    said, reader = talk()
    assert heard(reader, *said) == ["number 0", "number 1", "number 2"]
    assert not any(b"number" in frame for frame in said)
    assert len({frame[2:] for frame in said}) == 3


@given(st.data())
def test_no_bit_can_be_changed(data):
    said, reader = talk(frames=1)
    frame = bytearray(said[0])
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert heard(reader, bytes(frame)) == []  # a longer one, by its header: it is waited for
        assert reader.midway
    except PeerFault:
        assert reader.fault is not None


@pytest.mark.parametrize(
    "order", [(0, 0), (1,), (0, 2), (1, 0)], ids=["repeated", "left out", "left out later", "swapped"]
)
def test_no_frame_can_be_repeated_left_out_or_moved(order):
    said, reader = talk()
    with pytest.raises(PeerFault, match="not the next one"):
        heard(reader, *[said[at] for at in order])


def test_no_frame_can_be_sent_back():
    """Each direction has a key of its own."""
    client, server = ends()
    frame = Framer(DIALECT, client=False, sealer=server.sealer).messages(["x"])[0]
    with pytest.raises(PeerFault):
        PieceReader(DIALECT, client=True, max_frame=1000, opener=server.opener).feed(frame)
    assert client.proof == server.proof


def test_another_link_has_other_keys():
    (_, first), (second, _) = ends(), ends()
    frame = Framer(DIALECT, client=False, sealer=first.sealer).messages(["x"])[0]
    with pytest.raises(PeerFault):
        PieceReader(DIALECT, client=True, max_frame=1000, opener=second.opener).feed(frame)


def test_a_proof_takes_the_secret():
    nonces = new_nonce(), new_nonce()
    (client, server), (_, stranger) = ends(nonces=nonces), ends(KEY[::-1], nonces)
    assert client.is_proof(server.proof)
    assert not client.is_proof(stranger.proof)
    assert not client.is_proof("\u2603")


def test_control_frames_are_sealed_too():
    client, server = ends()
    framer = Framer(DIALECT, client=True, sealer=client.sealer)
    reader = PieceReader(DIALECT, client=False, max_frame=1000, opener=server.opener)
    frame = framer.close(CloseReason(1000, "bye" * 100))
    assert b"bye" not in frame
    (close,) = reader.feed(frame)
    assert isinstance(close, CloseReason)
    assert close.reason == ("bye" * 100)[:107]
    with pytest.raises(Misuse, match="109 bytes"):
        framer.control(9, bytes(110))


def test_a_frame_that_must_be_held_has_a_bound():
    _, reader = talk(max_frame=200)
    with pytest.raises(PeerFault, match="larger than 200"):
        reader.feed(bytes((0x82, 126)) + (201).to_bytes(2))


@pytest.mark.parametrize("shown", ["", "ab", "g" * 64])
def test_what_is_no_nonce_is_none(shown):
    assert read_nonce(shown) is None


def test_a_nonce_is_read_from_what_stands_before_a_proof():
    nonce = new_nonce()
    assert read_nonce(nonce + "00") == nonce


@pytest.mark.parametrize("others", [{"private_mask": b"123"}, {"opcodes": {1}}, {"chunk_size": 0}, {"streams": 1}])
def test_a_dialect_whose_parts_do_not_fit_is_misuse(others):
    with pytest.raises(Misuse):
        Dialect(**others)


def test_a_sealed_link_takes_a_key_worth_the_name():
    with pytest.raises(Misuse, match="16 bytes"):
        Dialect.sealed(b"password")
    assert KEY.hex() not in repr(DIALECT)
    assert repr(KEY) not in repr(DIALECT)


@pytest.mark.parametrize("first", [FIN | 2, FIN | 9, FIN | 8, 2])
def test_nothing_is_taken_before_the_proof(first):
    """A stranger's frame is refused by its header: none of it is held."""
    client, server = (sealed_by(KEY, "a", "b", client=client) for client in (True, False))
    framer = Framer(DIALECT, client=True, sealer=client.sealer)
    reader = PieceReader(DIALECT, client=False, max_frame=1000, opener=server.opener)
    with pytest.raises(PeerFault, match="does not prove the key"):
        reader.hold(framer.frame(first, b"")[:6])
