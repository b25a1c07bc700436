"""Runs what the authors of `eventsourcing` wrote to test recorders, on stores of eventport."""

from __future__ import annotations

import os
import tempfile

from pathlib import Path
from typing import Any
from unittest import TestCase

from eventsourcing.tests.application import ExampleApplicationTestCase
from eventsourcing.tests.persistence import (
    AggregateRecorderTestCase,
    ApplicationRecorderTestCase,
    NonInterleavingNotificationIDsBaseCase,
    ProcessRecorderTestCase,
    TrackingRecorderTestCase,
)
from eventsourcing_on_eventport import Database, LogAndTracker, LogRecorder, Recorder, Tracker


class OnMemory(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.database = Database(self.url())
        self.addCleanup(self.database.close)

    def url(self) -> str:
        return "memory://"


class OnSQLite(OnMemory):
    def url(self) -> str:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return f"sqlite:///{Path(folder.name) / 'events.db'}?synchronous=normal"


class Aggregates(AggregateRecorderTestCase):
    database: Database

    def create_recorder(self) -> Any:
        return Recorder(self.database, "bank-")


class Log(ApplicationRecorderTestCase[Any]):
    database: Database

    def create_recorder(self) -> Any:
        return LogRecorder(self.database, "bank-")


class Interleaving(NonInterleavingNotificationIDsBaseCase):
    database: Database
    insert_num = 100

    def create_recorder(self) -> Any:
        return LogRecorder(self.database, "bank-")


class Tracking(TrackingRecorderTestCase):
    database: Database

    def create_recorder(self) -> Any:
        return Tracker(self.database, "bank-")


class Process(ProcessRecorderTestCase):
    database: Database

    def create_recorder(self) -> Any:
        return LogAndTracker(self.database, "bank-")


class TestAggregatesOnMemory(OnMemory, Aggregates): ...


class TestAggregatesOnSQLite(OnSQLite, Aggregates): ...


class TestLogOnMemory(OnMemory, Log): ...


class TestLogOnSQLite(OnSQLite, Log): ...


class TestInterleavingOnMemory(OnMemory, Interleaving): ...


class TestInterleavingOnSQLite(OnSQLite, Interleaving): ...


class TestTrackingOnMemory(OnMemory, Tracking): ...


class TestTrackingOnSQLite(OnSQLite, Tracking): ...


class TestProcessOnMemory(OnMemory, Process): ...


class TestProcessOnSQLite(OnSQLite, Process): ...


class TestApplication(ExampleApplicationTestCase):
    expected_factory_topic = "eventsourcing_on_eventport:Factory"

    def setUp(self) -> None:
        super().setUp()
        os.environ["PERSISTENCE_MODULE"] = "eventsourcing_on_eventport"
        self.addCleanup(os.environ.pop, "PERSISTENCE_MODULE")


del AggregateRecorderTestCase, ApplicationRecorderTestCase, ExampleApplicationTestCase
del NonInterleavingNotificationIDsBaseCase, ProcessRecorderTestCase, TrackingRecorderTestCase
del OnMemory, OnSQLite, Aggregates, Log, Interleaving, Tracking, Process
