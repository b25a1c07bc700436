"""Everything that an adapter may import: the contract of an engine, its values and tools.

An adapter hands an engine over to a `Store`, which makes an `EventStore` of it.
"""

from __future__ import annotations

from eventport._concurrency.affinity import Affinity
from eventport._concurrency.alarms import Alarms
from eventport._concurrency.backoff import Backoff
from eventport._concurrency.nesting import calls_handlers
from eventport._concurrency.shielding import run_shielded
from eventport._concurrency.waits import LimitedWait, limit_wait
from eventport._config.options import checks_options, unknown_option
from eventport._config.plugins import Adapter, SchemaMaker
from eventport._config.urls import check_url, clean, explain, redact
from eventport._engine.calls import retry_lost
from eventport._engine.codec import (
    decode_event,
    encode_events,
    utc_from_microseconds,
    utc_to_microseconds,
)
from eventport._engine.commits import (
    Blocked,
    Commit,
    Committed,
    Conflict,
    EncodedEvent,
    Failed,
    Guard,
    Outcome,
    QueryConflict,
    QueryGuard,
    Seen,
    StreamGuard,
    StreamWrite,
    Written,
)
from eventport._engine.engine import (
    AnswerLostError,
    Catalogues,
    ChecksCaller,
    ConnectionLostError,
    Engine,
    Examines,
    Fences,
    Identified,
    Interruptible,
    KnowsLast,
    Listens,
    Queries,
    ReadsHeads,
    ReadsMany,
    Remote,
    Unblocks,
)
from eventport._engine.group_commit import Batching, GroupCommit
from eventport._engine.inline_handlers import (
    InlineHandlers,
    call_inline,
    inline_failure,
    new_events,
)
from eventport._engine.joined_store import JoinedStore
from eventport._engine.listing import NameQuery, end_of_prefix
from eventport._engine.opening import open_to_end, require_asyncio
from eventport._engine.planning import (
    Place,
    PlannedWrites,
    StoredIds,
    Unseen,
    plan,
    version_before,
)
from eventport._engine.queries import (
    AllPage,
    AllQuery,
    MatchPage,
    MatchQuery,
    StreamPage,
    StreamQuery,
)
from eventport._engine.remarks import Level, Remark, fact, remark_on_clock
from eventport._engine.store import Store
from eventport.validation import MAX_INT, control_character, show


__all__ = [
    "MAX_INT",
    "Adapter",
    "Affinity",
    "Alarms",
    "AllPage",
    "AllQuery",
    "AnswerLostError",
    "Backoff",
    "Batching",
    "Blocked",
    "Catalogues",
    "ChecksCaller",
    "Commit",
    "Committed",
    "Conflict",
    "ConnectionLostError",
    "EncodedEvent",
    "Engine",
    "Examines",
    "Failed",
    "Fences",
    "GroupCommit",
    "Guard",
    "Identified",
    "InlineHandlers",
    "Interruptible",
    "JoinedStore",
    "KnowsLast",
    "Level",
    "LimitedWait",
    "Listens",
    "MatchPage",
    "MatchQuery",
    "NameQuery",
    "Outcome",
    "Place",
    "PlannedWrites",
    "Queries",
    "QueryConflict",
    "QueryGuard",
    "ReadsHeads",
    "ReadsMany",
    "Remark",
    "Remote",
    "SchemaMaker",
    "Seen",
    "Store",
    "StoredIds",
    "StreamGuard",
    "StreamPage",
    "StreamQuery",
    "StreamWrite",
    "Unblocks",
    "Unseen",
    "Written",
    "call_inline",
    "calls_handlers",
    "check_url",
    "checks_options",
    "clean",
    "control_character",
    "decode_event",
    "encode_events",
    "end_of_prefix",
    "explain",
    "fact",
    "inline_failure",
    "limit_wait",
    "new_events",
    "open_to_end",
    "plan",
    "redact",
    "remark_on_clock",
    "require_asyncio",
    "retry_lost",
    "run_shielded",
    "show",
    "unknown_option",
    "utc_from_microseconds",
    "utc_to_microseconds",
    "version_before",
]
