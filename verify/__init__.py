"""Suites that verify each claim of the theory, and the command `gaunlearn`."""
