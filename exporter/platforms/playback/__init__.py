"""What the platforms with playback checks share: fetching of segments, and outcomes of fetches."""
