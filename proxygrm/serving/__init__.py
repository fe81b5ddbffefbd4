"""The frozen proxy: supervised vLLM replicas (`replicas`), their client (`pool`) and a front end; the chat client."""
