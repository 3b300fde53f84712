"""What everything stands on: errors, files, seeds, checked keys, words."""
