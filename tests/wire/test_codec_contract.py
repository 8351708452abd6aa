"""Every spelling does what every codec must."""

from typing import Any

from trio_hub.testing.contracts import CodecContract
from trio_hub.wire import cbor
from trio_hub.wire.codecs import COMPAT, V1_CBOR, V1_JSON


class TestCompat(CodecContract):
    codec = COMPAT


class TestV1(CodecContract):
    codec = V1_JSON


class TestV1InCbor(CodecContract):
    codec = V1_CBOR

    def spell(self, value: Any) -> bytes:
        return cbor.dumps(value)
