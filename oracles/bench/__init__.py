"""Measure `blackbox_zo.minimize` beside other optimisers on standard suites of functions.

A `Problem` is a function, a start and what is known of its optimum; a `Suite` makes problems. A solver asks a `Counted`
function, which notes after how many queries it first came within each target of the optimum, and ends the solver at its
budget. A `Trial` is what is kept of one solver on one problem; `table` turns trials into text.
"""
