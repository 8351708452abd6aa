"""Both spellings do what every codec must."""

from trio_hub.testing.contracts import CodecContract
from trio_hub.wire.codecs import COMPAT, V1_JSON


class TestCompat(CodecContract):
    codec = COMPAT


class TestV1(CodecContract):
    codec = V1_JSON
