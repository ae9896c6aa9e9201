"""The configuration: types, secrets, what every upstream has, the whole file, and loading with every error at once."""
