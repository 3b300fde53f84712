"""The neck: every key, its check, and the way from a command line to a checked configuration."""
