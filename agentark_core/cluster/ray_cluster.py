"""The Ray cluster that a run works on: joined or embedded, watched, and asked whether it is large enough."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Mapping

from agentark_core.errors import ConfigError, EngineError

HEAD_PROBE_S, HEAD_PROBES = 2.0, 5
"""Ten seconds without a head end a run: it can be started again at once, and Ray would not bring it back."""

OBJECT_STORE_BYTES = 256 * 1024**2
"""Traces never pass through Ray's object store, so the embedded cluster's can be small."""

# Ray takes 127.0.0.1 for itself only if it is told that this is no cluster; otherwise it replaces the address by that
# of a network card and listens on all interfaces. Ray 2.60 has no other switch for it; it is read when ray is imported.
RAY_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def connect() -> None:
    """Join the cluster at RAY_ADDRESS, or start an embedded one on loopback that ends with this process.

    Call it in a thread that stays: the kernel kills the embedded cluster when the *thread* that started it ends.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.update(RAY_ON_LOOPBACK)
    import ray

    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level="error")
    else:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
        )
    address = ray.get_runtime_context().gcs_address
    threading.Thread(target=_watch_head, args=(address,), name="watch-ray-head", daemon=True).start()


def check_resources(who_needs: str, needed: Mapping[str, float], *, lower: Mapping[str, str]) -> None:
    """Raise ConfigError if the joined cluster as a whole has less.

    needed, lower: how much of each kind of resource, and the key to lower. Example: "engine: one engine needs",
    {"CPU": 4}, lower={"CPU": "engine.num_cpus"}.
    """
    import ray

    total = ray.cluster_resources()
    for kind, amount in needed.items():
        if amount > total.get(kind, 0):
            raise ConfigError(
                f"{who_needs} {amount:g} {kind}, the Ray cluster has {total.get(kind, 0):g}; "
                f"lower {lower[kind]}, or add nodes"
            )


def _watch_head(address: str) -> None:
    """End this process with a clear error once the cluster's head is gone (F13).

    Ray itself ends the process after a minute, from a thread of its own and with a line about GCS that names no remedy.
    """
    host, _, port = address.rpartition(":")
    failures = 0
    while failures < HEAD_PROBES:
        time.sleep(HEAD_PROBE_S)
        try:
            socket.create_connection((host, int(port)), timeout=HEAD_PROBE_S).close()
            failures = 0
        except OSError:
            failures += 1
    print(
        f"agentark: the head of the Ray cluster ({address}) is gone; what is finished is journaled or committed: "
        "start the run again to go on (with RAY_ADDRESS set, start the cluster first)",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EngineError.exit_code)
