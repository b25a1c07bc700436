"""Small parts of structured concurrency; they know nothing of events."""
