"""The server's HTTP side: OpenAI's routes and some of vLLM's, in front of an `EngineClient`."""
