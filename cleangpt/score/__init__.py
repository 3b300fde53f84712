"""How good a model is: exact scores of every task, as dicts, tables and pictures."""
