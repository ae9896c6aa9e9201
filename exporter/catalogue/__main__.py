"""``python -m exporter.catalogue`` prints the reference of all families."""

from exporter.catalogue.reference import reference

if __name__ == "__main__":
    print(reference(), end="")
