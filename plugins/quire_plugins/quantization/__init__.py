"""How weight matrices are held and multiplied."""
