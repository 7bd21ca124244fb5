"""Numbers on the quality of judgements: plain functions of counts, without Django.

`docs/metrics.md` has one definition of each. Sides are aligned before anything is counted: a
category says which of two *samples* is better, never which side of the screen.
"""
