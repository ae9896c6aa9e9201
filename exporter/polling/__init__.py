"""Polling: one coordinator per upstream, and the tracking of its streams over time."""
