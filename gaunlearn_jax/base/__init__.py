"""What everything stands on: arrays, codes, checks, numerics, registries."""
