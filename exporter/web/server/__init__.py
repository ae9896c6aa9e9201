"""Connections: accepting, bad requests, slow clients."""
