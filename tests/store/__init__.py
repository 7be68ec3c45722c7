"""Tests of results on disk."""
