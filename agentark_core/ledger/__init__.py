"""The ledger: the only code that commits data. Keys, leases, journals, Parquet parts and their manifest.

What it promises: whatever process dies, and when, a rerun ends with the complete set of finished keys and no
duplicates, and no committed byte is read wrong without an error.

    store = Store(home, stage="traces", fingerprint=fingerprint("traces", config=config), config=config)
    with store.lease("shard-00003", timeout_s=60) as lease, store.journal("shard-00003") as journal:
        done = journal.replay()                       # what earlier attempts finished
        journal.append(new_records); journal.sync()   # once per group of finished questions
        store.commit("shard-00003", table, lease=lease, config_hash=store.fingerprint, meta={"ok": 1312})
    store.read()                                      # committed and verified rows only

It needs a file system with atomic rename() and link() shared by all processes (local disk, NFSv4, Lustre); object
stores offer neither.
"""

from agentark_core.ledger.files import atomic_write_json, atomic_write_text
from agentark_core.ledger.journal import Journal
from agentark_core.ledger.keys import SCHEMA_VERSION, canonical_json, fingerprint, request_seed, work_id
from agentark_core.ledger.lease import Lease
from agentark_core.ledger.rows import TURN_SCHEMA, table_to_turns, turn_record, turns_to_table
from agentark_core.ledger.store import ManifestEntry, Store, to_parquet

__all__ = [
    "SCHEMA_VERSION",
    "TURN_SCHEMA",
    "Journal",
    "Lease",
    "ManifestEntry",
    "Store",
    "atomic_write_json",
    "atomic_write_text",
    "canonical_json",
    "fingerprint",
    "request_seed",
    "table_to_turns",
    "turn_record",
    "to_parquet",
    "turns_to_table",
    "work_id",
]
