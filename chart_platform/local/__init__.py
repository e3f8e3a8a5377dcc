"""One instance on one machine: all of its processes, started, watched and stopped together.

Belongs here: processes, ports, logs, signals. Does not belong here: what the processes do, beyond their few lines of
start (``kafka``, ``code_server``, ``traffic``), or the command line itself (``cli``).
Import from the modules: ``supervisor`` has ``up``, ``down`` and ``status``.
"""
