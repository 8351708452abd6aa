"""The other ends of the links, as cheap as Python allows. Each is a program of its own."""
