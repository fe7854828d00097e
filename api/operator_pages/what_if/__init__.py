"""Pages that judge a repair policy and limits before they are set."""
