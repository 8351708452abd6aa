"""Servers to be measured. Each is a program that does as it is told on stdin: see `fan_out` for the words."""
