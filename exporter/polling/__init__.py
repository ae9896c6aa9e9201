"""Polling: one coordinator per upstream, and what a stream's reports become over time."""
