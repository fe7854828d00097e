"""What operators can do, one function each; a command, a request and a page only parse, call it and show its answer."""
