"""Statistics of VPS as they are kept for a while: asked for by the API, read by a worker, shown to their customer."""
