"""``stream-exporter session`` with the simulated platforms."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli import main
from exporter.cli.session_text import failure, platform_message, shown_answer
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.capabilities import CommandOption, ManualRequest, SessionAction, SessionCommand, SessionCommands
from exporter.platforms.registry import platforms
from exporter.platforms.wave.wave_sessions import delete_session, end_session
from exporter.simulator import Fleet, make_app
from exporter.simulator.context import PASSWORD, TOKEN, USERNAME
from exporter.simulator.simulated_streams import Platform, Stream
from tests.fake_clock import FakeClock

Output = pytest.CaptureFixture[str]


class Terminal(io.StringIO):
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


class Simulated:
    """Simulated platforms, and a configuration with upstreams on them."""

    def __init__(self, url: str, fleet: Fleet, now: float) -> None:
        self.fleet = fleet
        self.now = now
        bearer = {"bearer_token": TOKEN}
        configuration: dict[str, Any] = {
            "upstreams": [
                {
                    "name": "wave",
                    "platform": "wave",
                    "url": f"{url}/wave/api/v1",
                    "auth": bearer,
                    "sessions": [{"id": self.live(Platform.WAVE).id, "name": "keynote"}],
                },
                {
                    "name": "edge",
                    "platform": "storm",
                    "url": f"{url}/storm",
                    "base_path": "/api",
                    "auth": {"username": USERNAME, "password": PASSWORD},
                },
                {
                    "name": "studio",
                    "platform": "livepeer",
                    "url": f"{url}/livepeer/api",
                    "auth": bearer,
                },
                {"name": "other", "platform": "wave", "url": url, "auth": bearer, "sessions": ["s"]},
                {"name": "origin", "platform": "node_media_server", "url": url},
            ]
        }
        Path("config.yaml").write_text(yaml.safe_dump(configuration))

    def live(self, platform: Platform) -> Stream:
        return next(stream for stream in self.fleet.streams(platform) if self.fleet.is_live(stream, self.now))


async def broken(request: web.Request) -> web.Response:
    """Close the connection instead of responding."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    monkeypatch.chdir(tmp_path)
    fleet, clock = Fleet(30, seed=1), FakeClock()
    app = make_app(fleet, clock)
    app.router.add_route("*", "/streaming/sessions/{id}", broken)
    loop = asyncio.new_event_loop()
    server = TestServer(app)
    loop.run_until_complete(server.start_server())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Simulated(str(server.make_url("")).rstrip("/"), fleet, clock.now())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(server.close())
    loop.close()


def answered(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(text))


# -- showing -----------------------------------------------------------------------------------------------------------


def test_show_finds_a_wave_session_by_its_configured_name(simulated: Simulated, capsys: Output) -> None:
    stream = simulated.live(Platform.WAVE)
    assert main(["session", "show", "--upstream", "wave", "keynote"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["sessionId"] == stream.id
    assert printed.err.startswith("GET http://127.0.0.1:")
    assert printed.err.endswith(f"/wave/api/v1/streaming/sessions/{stream.id}\n")
    assert TOKEN not in printed.out + printed.err


def test_id_takes_precedence_over_a_name(simulated: Simulated, capsys: Output) -> None:
    stream = simulated.live(Platform.WAVE)
    assert main(["session", "show", "--upstream", "wave", stream.id]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "live"


def test_show_logs_in_to_storm(simulated: Simulated, capsys: Output) -> None:
    stream = simulated.live(Platform.STORM)
    assert main(["session", "show", "--upstream", "edge", f"{stream.application}/{stream.name}"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["data"]["streamKey"] == stream.name
    assert PASSWORD not in printed.out + printed.err


def test_show_finds_a_livepeer_stream_and_hides_its_key(simulated: Simulated, capsys: Output) -> None:
    stream = simulated.live(Platform.LIVEPEER)
    assert main(["session", "show", "--upstream", "studio", stream.id]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert (answer["id"], answer["streamKey"]) == (stream.id, "<secret>")
    assert [line.split("/api/")[1].split("/")[0] for line in printed.err.splitlines()] == ["session", "stream"]


def test_missing_session_is_reported(simulated: Simulated, capsys: Output) -> None:
    assert main(["session", "show", "--upstream", "studio", "nobody"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-3:] == [
        "no such session or stream",
        "GET /stream/{id}: status 404",
        "message of the platform: not found",
    ]


# -- changing ----------------------------------------------------------------------------------------------------------


def test_update_is_printed_and_must_be_confirmed(
    simulated: Simulated, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(monkeypatch, "y\n")
    flags = ["--status", "live", "--quality", "targetLatency=300", "--quality", "adaptiveBitrate=false"]
    flags += ["--metadata", "title=Main = stage", "--metadata", "n={}", "--custom-property", "x=[1]"]
    assert main(["session", "update", "--upstream", "wave", "keynote", *flags]) == 0
    printed = capsys.readouterr()
    request, body, question = printed.err.splitlines()
    assert request.startswith("PATCH http://")
    assert json.loads(body) == {
        "status": "live",
        "metadata": {"title": "Main = stage", "n": {}},
        "quality": {"targetLatency": 300, "adaptiveBitrate": False},
        "customProperties": {"x": [1]},
    }
    assert question == "Send it to upstream wave? [y/N] "
    assert json.loads(printed.out)["quality"]["targetLatency"] == 300


@pytest.mark.parametrize("answer", ["\n", "n\n", "", "yesterday\n"])
def test_unconfirmed_request_is_not_sent(
    answer: str, simulated: Simulated, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(monkeypatch, answer)
    assert main(["session", "end", "--upstream", "wave", "keynote"]) == 1
    assert capsys.readouterr().err.endswith("nothing was sent\n")
    assert main(["session", "show", "--upstream", "wave", "keynote"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "live"


def test_change_without_a_terminal_requires_yes(
    simulated: Simulated, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["session", "end", "--upstream", "wave", "keynote"]) == 2
    assert "use --yes" in capsys.readouterr().err


def test_live_session_must_be_ended_before_it_is_deleted(simulated: Simulated, capsys: Output) -> None:
    assert main(["session", "delete", "--upstream", "wave", "keynote", "--yes"]) == 1
    refused = capsys.readouterr().err.splitlines()
    assert refused[0].startswith("DELETE http://")
    assert refused[1:] == [
        "A live session can't be deleted; end it first.",
        'WAVE refused to delete the session; if it is live, end it first with "session end"',
        "DELETE /streaming/sessions/{id}: status 409",
        "message of the platform: Cannot delete active session",
    ]
    assert main(["session", "end", "--upstream", "wave", "keynote", "--yes"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "ended"
    assert main(["session", "delete", "--upstream", "wave", "keynote", "--yes"]) == 0
    assert "deletedAt" in json.loads(capsys.readouterr().out)
    assert main(["session", "delete", "--upstream", "wave", "keynote", "--yes"]) == 1
    assert "no such session" in capsys.readouterr().err


def test_lost_response_to_a_change_leaves_the_outcome_open(simulated: Simulated, capsys: Output) -> None:
    assert main(["session", "end", "--upstream", "other", "s", "--yes"]) == 1
    assert capsys.readouterr().err.endswith("the change may have been made; check with `session show`\n")


# -- invalid usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "--upstream", "nobody", "x"], "no upstream 'nobody' in config.yaml; its upstreams are wave, edge"),
        (["show", "--upstream", "origin", "x"], "show works only on livepeer, storm, wave"),
        (["end", "--upstream", "edge", "a/b"], "end works only on wave, but edge is on platform storm"),
        (["show", "--upstream", "edge", "no-slash"], "application/key"),
        (["show", "--upstream", "edge", "/key"], "application/key"),
        (["show", "--upstream", "wave", ".."], "'..' is not a valid id"),
        (["update", "--upstream", "wave", "keynote", "--yes"], "nothing to update"),
    ],
)
def test_invalid_arguments_are_usage_errors(
    arguments: list[str], said: str, simulated: Simulated, capsys: Output
) -> None:
    assert main(["session", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["look"],
        ["show", "x"],
        ["show", "--upstream", "wave", "x", "--yes"],
        ["update", "--upstream", "wave", "x", "--status", "gone"],
        ["update", "--upstream", "wave", "x", "--quality", "latency"],
        ["update", "--upstream", "wave", "x", "--quality", "=1"],
        ["update", "--upstream", "wave", "x", "--metadata", "a=\x1b[2J"],
    ],
)
def test_invalid_syntax_is_a_usage_error(arguments: list[str], capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["session", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: stream-exporter session")


@pytest.fixture
def storm_with_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add an update command with its own option to Storm."""

    def requests(stream_id: str, options: Mapping[str, Any]) -> tuple[ManualRequest]:
        return (ManualRequest("PATCH /titles/{id}", {"id": stream_id}, options["title"], notice="Viewers see it."),)

    update = SessionCommand(requests, options=(CommandOption("--title", "a title"),))
    commands = SessionCommands({SessionAction.UPDATE: update}, id_help="application/key")
    monkeypatch.setattr(platforms()["storm"], "session_commands", classmethod(lambda _: commands))


@pytest.mark.usefixtures("storm_with_update")
def test_platform_can_add_commands_and_options(
    simulated: Simulated, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(monkeypatch, "n\n")
    assert main(["session", "update", "--upstream", "edge", "x", "--title", "en=Final"]) == 1
    request, body, notice, *_ = capsys.readouterr().err.splitlines()
    assert request.endswith("/titles/x")
    assert (body, notice) == ('{"en": "Final"}', "Viewers see it.")
    assert main(["session", "update", "--upstream", "edge", "x", "--status", "live"]) == 2
    assert "--status does not work on storm" in capsys.readouterr().err
    assert main(["session", "update", "--upstream", "wave", "keynote", "--title", "en=Final"]) == 2
    assert "--title does not work on wave" in capsys.readouterr().err


@pytest.mark.usefixtures("storm_with_update")
def test_help_names_the_platforms_of_each_action(capsys: Output) -> None:
    with pytest.raises(SystemExit):
        main(["session", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "`show` works on livepeer (ID is a session id or a stream id) and wave;" in text
    assert "`update` works on storm (ID is application/key) and wave;" in text
    assert "`end` and `delete` work on wave." in text


def test_invalid_configuration_is_reported(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "bad.yaml").write_text("upstreams: []\n")
    path = str(tmp_path / "bad.yaml")
    assert main(["session", "show", "--upstream", "wave", "x", "--config.file", path]) == 1
    assert "at least one upstream" in capsys.readouterr().err


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"error": {"code": "CONFLICT", "message": "Cannot delete active session"}}, "Cannot delete active session"),
        (
            {
                "error": {
                    "message": "Validation error",
                    "details": [{"field": "status", "issue": "unknown", "expected": "live"}],
                }
            },
            "Validation error; status: unknown: live",
        ),
        ({"message": "bad", "errors": [{"field": "f", "message": "worse"}]}, "bad; f: worse"),
        ({"type": "about:blank", "title": "Gone", "detail": "It left."}, "It left.; Gone"),
        ({"errors": ["not found"]}, "not found"),
        ({"errors": [{"message": "not found"}]}, "not found"),
        ({"error": "no"}, "no"),
        ({"message": "a\x1b[2J\nb"}, "a?[2J?b"),
        ({"message": "x" * 1000}, "x" * 500),
        ({"message": 7, "errors": "none", "error": None}, ""),
        ([], ""),
    ],
)
def test_message_of_the_platform_is_extracted(answer: Any, words: str) -> None:
    assert platform_message(json.dumps(answer).encode()) == words


@given(
    st.binary()
    | st.recursive(
        st.none() | st.text(),
        lambda inside: st.dictionaries(
            st.sampled_from(["error", "errors", "message", "details", "field"]), inside | st.lists(inside, max_size=2)
        ),
    ).map(lambda data: json.dumps(data).encode())
)
def test_any_error_response_is_handled(body: bytes) -> None:
    words = platform_message(body)
    assert words.isprintable()
    assert len(words) <= 500


SHOW = ManualRequest("GET /stream/{id}", {"id": "known-key"})


def test_secrets_in_a_response_are_hidden_wherever_they_occur() -> None:
    data = {
        "streamKey": "abcd-1234",
        "name": "of abcd-1234",
        "nested": [{"stream_key": "known-key", "accessToken": {"a": 1}, "apiKey": "", "password": None}],
    }
    assert json.loads(shown_answer(data, SHOW)) == {
        "streamKey": "<secret>",
        "name": "of <secret>",
        "nested": [{"stream_key": "known-key", "accessToken": "<secret>", "apiKey": "", "password": None}],
    }


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("order", [SHOW, end_session("s"), delete_session("s")])
def test_every_failure_has_a_meaning(reason: Reason, order: ManualRequest) -> None:
    first, second, *_ = failure(UpstreamError(reason, "GET /x: it failed"), order)
    assert first
    assert second == "GET /x: it failed"


@pytest.mark.parametrize(
    ("order", "meaning"),
    [
        (lambda: end_session("s"), "the platform refused the request"),
        (
            lambda: delete_session("s"),
            'WAVE refused to delete the session; if it is live, end it first with "session end"',
        ),
    ],
)
def test_refusal_has_the_meaning_of_its_request(order: Callable[[], ManualRequest], meaning: str) -> None:
    error = UpstreamError(Reason.BAD_RESPONSE, "status 400", status=400)
    assert failure(error, order()) == [meaning, "status 400"]
