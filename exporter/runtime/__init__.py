"""Foundations without dependencies on other packages of ours: clock, files, logging, redaction, memory tuning."""
