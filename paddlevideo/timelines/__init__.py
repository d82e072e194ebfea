"""Long videos and streams: windows of a file or stream, and the segments that they form."""
