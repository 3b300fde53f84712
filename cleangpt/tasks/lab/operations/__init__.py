"""What is asked: one file an operation, which is found by its name (`dataset.operation=add`)."""
