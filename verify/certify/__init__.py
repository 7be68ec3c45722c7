"""Certificate files."""
