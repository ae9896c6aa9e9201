"""Bulk text: columns of numbers, label text that is kept, and the lines that they make."""
