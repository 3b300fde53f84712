"""How good a model is: exact scores of every task.

evaluate.py      the judge, who reads with a model; loss and accuracy on the validation set
exact_match.py   questions with one right answer, cut into slices
asking.py        the same asked in another way: behind a prefix, at a temperature, several times
layout.py        their scores as tables and pictures
language.py      text, token by token
of_task.py       either of them, as the task wants it; and the files that a score leaves
harness.py       tasks of lm-evaluation-harness, answered by a model of ours
run.py           a scoring, from what was asked to the files: what eval/score.py does
"""
