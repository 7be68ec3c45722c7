"""The audit of a user's own data and weights."""
