"""Model families, each as flags and names of the one native decoder."""
