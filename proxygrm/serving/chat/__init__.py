"""The chat client for OpenAI-compatible services: of the teacher, of endpoint judges and of the proxy's pool.

request: the body. connections: sends it, and reads what comes back. failures: why there is no answer. answer: what a
chat completion contains. client: one service with retries; the pool (`serving.pool`) has its own policy instead,
because it has several replicas to choose from.
"""
