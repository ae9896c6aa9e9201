"""Text of the families in the catalogue: by column for many objects, by row for few."""
