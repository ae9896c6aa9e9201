"""Benchmarks of the exporter and of alternatives for the same work: ``make bench``, or ``python -m bench PART``.

There are no time limits that pass or fail. Every case runs in its own process. The cases of a comparison alternate, so
that each ratio is computed within a round; the medians over the rounds are printed.
"""
