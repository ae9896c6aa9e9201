"""Metric families as data, and their exposition as text."""
