"""Kafka: the embedded broker, topics, offset planning and reading exact offset ranges.

Belongs here: everything that talks to Kafka or reasons about its offsets, and nothing that knows what an event is.
Does not belong here: decoding messages (``contracts``, ``transform``) or committing offsets (``lakehouse``).
Import from the modules: ``broker``, ``clients``, ``topics``, ``planning``, ``offsets``, ``reader``.
"""
