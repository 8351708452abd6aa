"""Floor 5a: what an application plugs in."""
