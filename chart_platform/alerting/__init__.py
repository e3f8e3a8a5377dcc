"""Telling people of failed runs and checks: what to say, to whom, when to be silent, and how it gets to Slack."""
