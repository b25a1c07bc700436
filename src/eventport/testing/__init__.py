"""For the tests of programs that use event stores: specifications, and a clock that stands still.

The module `eventport.testing.fixtures` has fixtures for pytest, and is imported by pytest alone.
"""

from __future__ import annotations

from eventport.testing.clock import FakeClock
from eventport.testing.specifications import Given, Outcome, Specification, specify


__all__ = ["FakeClock", "Given", "Outcome", "Specification", "specify"]
