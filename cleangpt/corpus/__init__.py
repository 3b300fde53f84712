"""Text of any size as token files: where it is read from, how it is prepared, and how it is stored."""
