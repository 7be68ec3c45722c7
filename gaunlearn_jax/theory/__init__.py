"""What the theorems say: bounds, verdicts, closeness."""
