"""Company data: what the company knows of its users, from PostgreSQL or files, with its history. No Dagster here.

``look`` takes in what the source has now, ``update_dimension`` carries it to gold.dim_user, ``state`` says how fresh it
is. Nothing else waits for it: without profiles, or with old ones, everything goes on.
"""
