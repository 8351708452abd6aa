"""The version of this package; said in every hello."""

from typing import Final

__all__ = ["VERSION"]

VERSION: Final = "0.1.0"
