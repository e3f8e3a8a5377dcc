"""Experiments: who saw which variant, what they did after, and what can be concluded from it.

Belongs here: the registry of experiments, exposures, metrics and statistics. Does not belong here: assigning variants (the
pages do), or how events become visits (``transform``).
"""
