"""`python -m eventport` is the command `eventport`."""

from __future__ import annotations

import sys

from eventport.cli import main


sys.exit(main())
