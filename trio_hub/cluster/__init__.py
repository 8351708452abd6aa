"""Floor 5b: many processes."""
