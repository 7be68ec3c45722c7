"""Training, and the losses."""
