"""Reading what viewers get: HLS playlists and the media segments that they list.

Everything here is a pure function of bytes, without I/O. Playlists are parsed or refused with ``PlaylistError``;
segments are inspected without decoding, and whatever cannot be told from their bytes is None.
"""
