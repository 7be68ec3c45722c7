"""Phase diagrams: where in a plane of two parameters hypotheses hold, bounds speak, and the step is worth taking."""
