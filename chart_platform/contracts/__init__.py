"""What an event and a table is: the JSON Schema, and all that is derived from it. No I/O beyond packaged files."""
