"""Checks: Pandera schemas derived from the contract, and the reconciliation of tables with Kafka."""
