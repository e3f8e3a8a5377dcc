"""Conversions: what affiliate networks say was bought and what they pay for it, matched with our clicks. No Dagster here.

``take_in`` brings dropped files to bronze, ``facts.update`` and ``reconcile.update`` carry them to gold, ``postbacks``
is the door for single conversions over HTTP.
"""
