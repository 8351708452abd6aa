"""A load for a running server."""
