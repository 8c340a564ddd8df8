"""How models call tools: the text in which they do, and what is read from it."""
