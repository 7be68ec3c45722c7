"""The independent checker, which imports nothing outside this folder."""
