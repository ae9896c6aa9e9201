"""The configuration: settings classes, value types, secrets, and loading with all errors reported at once."""
