"""Polling: one coordinator per upstream, and what a stream's samples become over time."""
