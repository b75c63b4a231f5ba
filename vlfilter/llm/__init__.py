"""One judge for all methods: questions to OpenAI, Anthropic or an OpenAI-compatible server."""
