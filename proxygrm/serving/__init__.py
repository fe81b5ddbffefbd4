"""The frozen proxy: vLLM replicas with supervision (`server`, `group`, `serve`) and their client (`client`)."""
