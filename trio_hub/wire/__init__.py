"""Floor 1: bytes to messages and back. Pure: no trio, no clock, no I/O."""
