"""Render metric families to text: column by column for many objects, row by row for few."""
