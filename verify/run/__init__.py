"""Plan, compute, tally."""
