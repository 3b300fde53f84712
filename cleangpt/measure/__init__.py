"""Speed, measured so that it can be believed: all sides in one process, in turn, medians and their spread."""
