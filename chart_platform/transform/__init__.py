"""What rows mean: Kafka messages to bronze, bronze to silver, what dbt is given. No Dagster here."""
