"""What the platforms with playback checks share: fetching of segments, outcomes of fetches, and estimates."""
