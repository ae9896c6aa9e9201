from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from exporter.cli.settings import config_schema, load_settings
from exporter.config.loading import ConfigError
from exporter.config.upstream import UpstreamSettings
from exporter.http.client import Requests
from exporter.platforms import registry
from exporter.platforms.base import FetchResult, Platform
from exporter.platforms.parsing import DropCounter

GROUP = registry.GROUP
SHIPPED = sorted(page.stem for page in (Path(__file__).parents[2] / "docs" / "platforms").glob("*.md"))
"""Names of the shipped platforms, each of which has a page."""


class MediaSettings(UpstreamSettings):
    """Settings with pydantic's own types, as another package may use."""

    platform: Literal["media"] = "media"
    default_interval: ClassVar[float] = 60.0

    retries: int = Field(default=0, ge=0)
    codes: tuple[Annotated[str, StringConstraints(pattern="^[a-z]+$")], ...] = ()
    mode: bool | Literal["auto"] | int = "auto"
    share: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    token: SecretStr | None = None

    @field_validator("share")
    @classmethod
    def _not_all(cls, share: float) -> float:
        if share == 1:
            raise ValueError("must be less than 1")
        return share

    @model_validator(mode="after")
    def _fits(self) -> MediaSettings:
        if self.retries and not self.codes:
            raise ValueError("retries require codes")
        return self


class Media(Platform[MediaSettings]):
    name = "media"
    settings_class = MediaSettings

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        return FetchResult()

    @classmethod
    def requests_per_minute(cls, settings: MediaSettings) -> float:
        return 0.0


class WithoutSettings(Media):
    name = "without"
    settings_class = int  # type: ignore[assignment]


class WithoutName(Media):
    name = ""


class Taken(Media):
    name = "storm"


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, GROUP)


def test_shipped_platforms_are_found() -> None:
    assert list(registry.platforms()) == SHIPPED
    assert all(platform.name == name for name, platform in registry.platforms().items())


def test_platform_of_another_package_is_found() -> None:
    found = registry.find(registry.shipped_names(), [point("media", f"{__name__}:Media")])
    assert list(found.platforms) == sorted([*SHIPPED, "media"])
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("no_such_module:Platform", "ModuleNotFoundError"),
        (f"{__name__}:no_such_name", "AttributeError"),
        (f"{__name__}:GROUP", "it is not a subclass of Platform"),
        (f"{__name__}:WithoutSettings", "its settings_class is not a subclass of UpstreamSettings"),
        (f"{__name__}:WithoutName", "it has no name"),
        (f"{__name__}:Taken", "platform storm already exists"),
        ("exits_when_imported:Platform", "SystemExit"),
    ],
)
def test_broken_platform_is_left_out_with_a_warning(
    value: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exits_when_imported.py").write_text("raise SystemExit('canary')\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = registry.find(registry.shipped_names(), [point("broken", value)])
    assert list(found.platforms) == SHIPPED
    assert found.warnings == (f"entry point broken of {GROUP} ({value}) is ignored: {cause}",)


@pytest.fixture
def with_media(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the platform above, and a broken one."""
    points = [point("media", f"{__name__}:Media"), point("broken", "no_such_module:Platform")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == GROUP else [])
    registry.registry.cache_clear()
    config_schema.cache_clear()
    yield
    registry.registry.cache_clear()
    config_schema.cache_clear()


@pytest.mark.usefixtures("with_media")
def test_settings_of_another_package_are_part_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("upstreams: [{name: a, platform: media, url: http://a}, {name: b, platform: livepeer}]")
    settings = load_settings(path, {})
    assert isinstance(settings.upstreams[0], MediaSettings)
    assert (settings.upstreams[0].interval, settings.upstreams[1].interval) == (60.0, 30.0)
    assert [warning.partition(": ")[2] for warning in settings.warnings] == ["ModuleNotFoundError"]


@pytest.mark.usefixtures("with_media")
def test_errors_of_pydantic_types_are_formatted_like_ours(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        """upstreams:
  - {name: a, platform: media, url: http://a, retries: -1, codes: [A1], mode: sometimes, share: 0, token: 5}
  - {name: b, platform: media, url: http://b, retries: many, codes: a, mode: {a: b}, share: 1}
  - {name: c, platform: media, url: http://c, retries: 1}
"""
    )
    with pytest.raises(ConfigError) as caught:
        load_settings(path, {})
    assert [line.removeprefix(f"{path}:") for line in caught.value.errors] == [
        "2:56: upstreams[0].retries: expected greater than or equal to 0, got -1",
        "2:68: upstreams[0].codes[0]: expected pattern '^[a-z]+$', got \"A1\"",
        '2:79: upstreams[0].mode: expected true or false or auto or whole number, got "sometimes"',
        "2:97: upstreams[0].share: expected greater than 0, got 0",
        "2:107: upstreams[0].token: expected a value of another type (the value is not shown)",
        '3:56: upstreams[1].retries: expected a whole number, got "many"',
        "3:69: upstreams[1].codes: expected a list of strings, got a string",
        "3:78: upstreams[1].mode: expected true or false or auto or whole number, got a mapping",
        "3:93: upstreams[1].share: must be less than 1",
        "4:5: upstreams[2]: retries require codes",
    ]
