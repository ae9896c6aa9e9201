import pytest

from exporter.media.hls_playlist import MAX_VARIANTS, MediaPlaylist, PlaylistError, Variant, parse_playlist
from tests.media.media_files import document, live_list, master

MASTER = """#EXTM3U
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-DEFINE:NAME="v",VALUE="x"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",LANGUAGE="en",NAME="English, main",DEFAULT=YES,CHANNELS="2",URI="en.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",LANGUAGE="de",NAME="Deutsch",URI="de.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="In the variant"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subs",NAME="English",URI="subs.m3u8"
#EXT-X-STREAM-INF:CODECS="avc1.640028, mp4a.40.2",AUDIO="aac",SUBTITLES="subs",FRAME-RATE=29.970,RESOLUTION=1280x720,\
AVERAGE-BANDWIDTH=1000000,BANDWIDTH=2000000,PATHWAY-ID="CDN-A",NAME="720p"
# a comment

{$v}/720.m3u8?token=1
#EXT-X-STREAM-INF:BANDWIDTH=128000,CODECS="mp4a.40.2"
audio.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=80000,RESOLUTION=1280x720,CODECS="avc1.640028",URI="iframes.m3u8"
"""


def test_variants() -> None:
    playlist = master(MASTER)
    assert playlist.variants[0] == Variant(
        uri="x/720.m3u8?token=1",
        bandwidth_bytes_per_second=250_000,
        average_bandwidth_bytes_per_second=125_000,
        codecs=("avc1.640028", "mp4a.40.2"),
        width_pixels=1280,
        height_pixels=720,
        frame_rate_hertz=29.97,
        name="720p",
        audio_group="aac",
        video_group="",
        subtitles_group="subs",
        pathway="CDN-A",
    )
    assert [variant.uri for variant in playlist.variants[1:]] == ["audio.m3u8"]
    assert playlist.variants[1].width_pixels is None
    assert [variant.uri for variant in playlist.i_frame_variants] == ["iframes.m3u8"]
    assert (playlist.independent_segments, playlist.truncated, playlist.dropped) == (True, False, ())
    assert playlist.variables == {"v": "x"}


def test_renditions() -> None:
    playlist = master(MASTER)
    audio = playlist.audio_renditions
    assert [(rendition.language, rendition.name, rendition.default) for rendition in audio] == [
        ("en", "English, main", True),
        ("de", "Deutsch", False),
    ]
    assert [rendition.uri for rendition in playlist.renditions] == ["en.m3u8", "de.m3u8", None, "subs.m3u8"]
    assert audio[0].channels == "2"


@pytest.mark.parametrize("order", [1, -1])
def test_order_of_attributes_and_spaces_do_not_matter(order: int) -> None:
    attributes = ['CODECS = "a=b,c"', " BANDWIDTH= 800000.0 ", "RESOLUTION=64X36", 'X-VENDOR="=,"', "FRAME-RATE= 25"]
    variant = master("#EXTM3U\n#EXT-X-STREAM-INF:" + ",".join(attributes[::order]) + "\nv\n").variants[0]
    assert (variant.codecs, variant.bandwidth_bytes_per_second) == (("a=b", "c"), 100_000)
    assert (variant.width_pixels, variant.height_pixels, variant.frame_rate_hertz) == (64, 36, 25)


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("BANDWIDTH=0", "BANDWIDTH"),
        ("BANDWIDTH=nan", "BANDWIDTH"),
        ("BANDWIDTH=x", "BANDWIDTH"),
        ("RESOLUTION=64", "RESOLUTION"),
        ("FRAME-RATE=inf", "FRAME-RATE"),
    ],
)
def test_unreadable_attribute_drops_only_itself(attribute: str, name: str) -> None:
    playlist = master(f'#EXTM3U\n#EXT-X-STREAM-INF:{attribute},AUDIO="a"\nv.m3u8\n')
    assert [(variant.uri, variant.audio_group) for variant in playlist.variants] == [("v.m3u8", "a")]
    assert playlist.dropped == (name,)


@pytest.mark.parametrize(
    ("lines", "dropped"),
    [
        ("#EXT-X-STREAM-INF:BANDWIDTH=1", "EXT-X-STREAM-INF"),
        ("stray.m3u8", "URI"),
        ("#EXT-X-MEDIA:TYPE=SMELL,GROUP-ID=a", "EXT-X-MEDIA"),
        ("#EXT-X-MEDIA:TYPE=AUDIO", "EXT-X-MEDIA"),
        ("#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1", "EXT-X-I-FRAME-STREAM-INF"),
        ("#EXT-X-DEFINE:x", "EXT-X-DEFINE"),
        ("#" + "x" * 20_000, "long line"),
    ],
)
def test_unreadable_tag_drops_only_itself(lines: str, dropped: str) -> None:
    playlist = master(f"#EXTM3U\n{lines}\n#EXT-X-STREAM-INF:BANDWIDTH=800\nv\n")
    assert [variant.uri for variant in playlist.variants] == ["v"]
    assert playlist.dropped == (dropped,)


def test_undefined_variable_stays() -> None:
    playlist = master("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=800\n{$x}\n")
    assert (playlist.variants[0].uri, playlist.dropped) == ("{$x}", ("EXT-X-DEFINE",))


def test_cut_off_body() -> None:
    assert master(document("ffmpeg-5.1-ts-master")[:-20]).truncated


@pytest.mark.parametrize("line", ["#EXT-X-STREAM-INF:BANDWIDTH=1\nv\n", '#EXT-X-I-FRAME-STREAM-INF:URI="v"\n'])
def test_too_many_variants_are_refused(line: str) -> None:
    with pytest.raises(PlaylistError, match="more than 1000 variants"):
        master("#EXTM3U\n" + line * (MAX_VARIANTS + 1))


def test_too_many_renditions_are_refused() -> None:
    with pytest.raises(PlaylistError, match="more than 1000 renditions"):
        master("#EXTM3U\n" + '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a"\n' * (MAX_VARIANTS + 1))


def test_long_master_playlist_is_refused() -> None:
    with pytest.raises(PlaylistError, match="a master playlist larger than 262144 bytes"):
        master(MASTER + "#\n" * 150_000)


def test_names_are_bounded() -> None:
    rendition = master(f'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="{"x" * 999}"\n').renditions[0]
    assert rendition.name == "x" * 128


def test_playlist_with_both_kinds_of_tags_is_a_media_playlist() -> None:
    text = live_list("#EXT-X-STREAM-INF:BANDWIDTH=1", "#EXTINF:6,", "a.ts")
    assert isinstance(parse_playlist(text.encode()), MediaPlaylist)
