"""Read models of documents by key, which are the same program on every database."""

from __future__ import annotations

from eventport.read_models.memory import MemoryDocuments
from eventport.read_models.model import Documents, DocumentView, Found, ReadModel
from eventport.read_models.places import open_read_models
from eventport.transactions import DocumentReader, DocumentWriter


__all__ = [
    "DocumentReader",
    "DocumentView",
    "DocumentWriter",
    "Documents",
    "Found",
    "MemoryDocuments",
    "ReadModel",
    "open_read_models",
]
