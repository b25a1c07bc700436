"""Make a database that is none of ours, and die so that a log or journal is left beside it."""

from __future__ import annotations

import os
import sqlite3
import sys


path, mode = sys.argv[1:]
db = sqlite3.connect(path, isolation_level=None)
db.execute("CREATE TABLE theirs (value TEXT)")
db.executemany("INSERT INTO theirs VALUES (?)", [("x" * 500,) for _ in range(2_000)])
db.execute(f"PRAGMA journal_mode = {mode}")
db.execute("PRAGMA cache_size = 1")  # so that pages go to the file before the commit
db.execute("BEGIN")
db.execute("UPDATE theirs SET value = upper(value)")
if mode == "wal":
    db.execute("COMMIT")
os._exit(0)
