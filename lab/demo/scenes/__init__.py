"""The scenes of the story, one module each; every `play` adds what it saw to the stage's sights."""
