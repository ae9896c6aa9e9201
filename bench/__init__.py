"""What the exporter costs, beside what others cost for the same work: ``make bench``, or ``python -m bench PART``.

Nothing here passes or fails by the clock. Every case runs in a process of its own; the cases of a comparison run in
turn, so that each ratio is taken within a round, and the medians over the rounds are printed.
"""
