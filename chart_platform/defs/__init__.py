"""Dagster objects, thin: decorators and configs around functions that know nothing of Dagster."""
