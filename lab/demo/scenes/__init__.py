"""The scenes of the story, one module for each. Every `play` adds what it saw to the stage's sights."""
