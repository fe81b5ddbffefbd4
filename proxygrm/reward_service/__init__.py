"""Any reward model behind one HTTP API: its models (`judges`), the API, its page, the process."""
