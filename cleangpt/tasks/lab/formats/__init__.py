"""How problems are written: one file a format, which is found by its name (`dataset.format=plain`)."""
