import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.web.metrics_handler import accepts_gzip


@pytest.mark.parametrize(
    "header",
    ["gzip", "GZIP", "x-gzip", "*", "deflate, gzip;q=0.5", "gzip ; Q=1.0", "identity, *;q=0.1", "br,gzip,deflate"],
)
def test_gzip_is_accepted(header: str) -> None:
    assert accepts_gzip(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "identity",
        "gzip;q=0",
        "gzip;q=0.000",
        "*;q=0",
        "gzip;q=0, *",
        "deflate",
        "gzip;q=much",
        "gzipped",
        "gzip;q=nan",
    ],
)
def test_gzip_is_not_accepted(header: str) -> None:
    assert not accepts_gzip(header)


@given(st.text(alphabet='gzip*;q=0.1, "\\x', max_size=60))
def test_any_header_is_read(header: str) -> None:
    assert accepts_gzip(header) in (True, False)
