"""Functions of lanes, cut at their staged equations into programmes that are compiled one by one and may be kept."""
