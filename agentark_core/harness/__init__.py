"""lm-evaluation-harness (Gao et al., EleutherAI) beside our own evaluation: it runs on our students, our records go to
its format, and the two are compared question by question.

environment.py: its own environment. task.py: questions of arkling as a task of it. run.py: a student through it.
samples.py: its sample files. export.py: our evaluations as such. agreement.py: two of them on the same questions.
"""
