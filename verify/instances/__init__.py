"""Instances and grids."""
