"""What a person reads on a terminal: progress, tables, streams that may be closed."""
