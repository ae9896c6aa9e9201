"""``python -m exporter.metrics.families`` prints the reference of all families."""

from exporter.metrics.families.reference import reference

if __name__ == "__main__":
    print(reference(), end="")
