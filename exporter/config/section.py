"""Base class of the mappings in the configuration."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from exporter.config.secrets import SOURCE_SUFFIXES, Secret, SecretSource


class Section(BaseModel):
    """A mapping in the configuration. It is frozen and refuses unknown keys; null counts as an absent key.

    A field ``X`` of type ``Secret`` may also be given as ``X_file`` or ``X_env``.
    """

    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True
    )

    secret_fields: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.secret_fields = frozenset(name for name, info in cls.model_fields.items() if _is_secret(info.annotation))

    @classmethod
    def known_keys(cls) -> dict[str, str]:
        """Return the keys that may be given here, and the field that each of them sets."""
        keys: dict[str, str] = {}
        for name, info in cls.model_fields.items():
            keys[info.alias or name] = name
            if name in cls.secret_fields:
                keys |= {name + suffix: name for suffix in SOURCE_SUFFIXES}
        return keys

    @model_validator(mode="before")
    @classmethod
    def _join_secret_keys(cls, data: Any) -> Any:
        """Drop nulls, and combine the three keys of each secret."""
        if not isinstance(data, dict):
            return data
        known = cls.known_keys()
        data = {key: value for key, value in data.items() if value is not None or key not in known}
        for name in cls.secret_fields:
            sources = {suffix: data.pop(name + suffix) for suffix in ("", *SOURCE_SUFFIXES) if name + suffix in data}
            if sources:
                data[name] = _secret_source(name, sources)
        return data

    @model_serializer(mode="wrap")
    def _dump_secret_sources(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Dump a secret as its file or variable under the corresponding key; hide an inline secret."""
        dumped: dict[str, Any] = {}
        for key, value in serialise(self).items():
            secret = getattr(self, key) if key in self.secret_fields else None
            suffix, shown = secret.spelling if isinstance(secret, Secret) else ("", value)
            dumped[key + suffix] = shown
        return dumped


def _is_secret(annotation: Any) -> bool:
    """Return whether a field of this type holds a secret (which may be optional)."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return any(map(_is_secret, get_args(annotation)))
    return annotation is Secret


def _secret_source(name: str, sources: dict[str, Any]) -> SecretSource | Secret:
    if len(sources) > 1:
        return SecretSource(several=tuple(name + suffix for suffix in sources))
    ((suffix, value),) = sources.items()
    return value if isinstance(value, Secret | SecretSource) else SecretSource(suffix=suffix, value=value)
