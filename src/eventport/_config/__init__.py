"""From a URL, or a name in a file, to an open store; users see it as `eventport.connect`."""
