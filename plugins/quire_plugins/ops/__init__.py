"""Operations of a model besides attention."""
