"""The configuration: settings classes, value types, secrets, and loading with all errors reported at once."""

from exporter.runtime.lean_imports import without_modules

with without_modules("bz2", "lzma"):
    # pydantic imports it, and with it the compression of archives
    import importlib.metadata  # noqa: F401
