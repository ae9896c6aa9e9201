"""Settings of groups: streams that belong together, such as main and backup, or several vantage points."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from exporter.config.section import Section
from exporter.config.streams import Expected
from exporter.config.types import Between, Count, Duration, Name, Text, format_duration
from exporter.config.validation import Place, refuse, refuse_all, refuse_because


class GroupMember(Section):
    """One stream of a group."""

    upstream: Name = Field(description="Name of the stream's upstream.")
    stream: Text = Field(description="Value of the stream's label `stream`: its configured name, or its id.")
    role: Text | None = Field(default=None, description="Role in the group, such as `main` or `backup`.")


def _check_members(members: tuple[GroupMember, ...]) -> tuple[GroupMember, ...]:
    if not members:
        raise refuse("at least one stream", found="an empty list")
    seen: set[tuple[str, str]] = set()
    errors: dict[Place, PydanticCustomError] = {}
    for index, member in enumerate(members):
        if (member.upstream, member.stream) in seen:
            errors[index, "stream"] = refuse_because("this stream is already in the group")
        seen.add((member.upstream, member.stream))
    if errors:
        raise refuse_all("streams", errors)
    return members


class GroupSettings(Section):
    """Streams that belong together. The group is up while enough of them are live."""

    name: Name = Field(description="Unique name; the value of the label `group`.")
    streams: Annotated[tuple[GroupMember, ...], AfterValidator(_check_members)] = Field(
        description="The streams of the group."
    )
    need: Annotated[Count, Between(1, 1000)] | None = Field(
        default=None, description="Number of streams that must be live. Without it, all of them."
    )
    expected: Expected | None = Field(
        default=None,
        description="When the group should be up, as for a stream. Without it, whenever one of its streams should be "
        "live.",
    )
    start_grace: Annotated[Duration, Between(0, 86_400, format_duration)] = Field(
        default=0.0, description="As for a stream; only with `expected`."
    )

    @property
    def needed(self) -> int:
        """Number of streams that must be live."""
        return len(self.streams) if self.need is None else self.need

    @model_validator(mode="after")
    def _check_need(self) -> GroupSettings:
        if self.need is not None and self.need > len(self.streams):
            allowed = f"at most the number of streams ({len(self.streams)})"
            raise refuse_all("group", {("need",): refuse(allowed, found=str(self.need))})
        return self
