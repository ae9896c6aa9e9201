"""Alerts: the rules as data, and their readers: PromQL text, the sidecar's evaluator, the runbook."""
