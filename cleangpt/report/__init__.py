"""Comparing runs: `collect` reads them, `compare` says what differs and how sure that is, the others show it."""
