"""One training, from a checked configuration to a complete run directory."""
