"""What everything else builds on: clock, logging, redaction, memory tuning."""
