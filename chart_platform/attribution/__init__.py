"""Which channels earned what: weights that the data give, and the whole parts in which money is divided.

Belongs here: pure functions over counts. Does not belong here: journeys and credits (dbt_project/models/attribution), or
what is made again when (``transform.attribution``).
"""
