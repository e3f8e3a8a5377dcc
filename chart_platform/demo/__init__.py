"""The demo site: a comparison chart of website builders, instrumented by the tracer, that shows where its events go.

Belongs here: the pages (``site/``, plain HTML, CSS and modules), serving them, and looking up how far an event has come.
Does not belong here: taking events in (``edge``), or any page for the platform's own users (``serving``).
"""
