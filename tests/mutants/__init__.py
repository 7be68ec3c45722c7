"""Mutants: one small mistake each, which the tests of its own module must notice. `python -m tests.mutants`."""
