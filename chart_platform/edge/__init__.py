"""The edge: where events of real browsers enter. Collector, affiliate redirect, and what protects both.

Belongs here: HTTP, write keys, rate limits, privacy, admission of events, durable hand-over to Kafka, replay.
Does not belong here: what happens to an event once it is on the topic (``transform``), pages that send events (``demo``).
"""
