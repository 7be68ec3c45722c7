"""One file per claim."""
