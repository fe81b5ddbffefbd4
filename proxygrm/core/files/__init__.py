"""Files that are whole, durable, owned and locked; texts and JSON lines that people may have written."""
