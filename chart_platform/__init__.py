"""Clickstream data platform for product-comparison pages: Kafka in, Iceberg out, every event accounted for."""
