"""Metric families as data, and their text exposition."""
