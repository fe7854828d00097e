"""What the panel sends by itself: alarms to a receiver of the operators' choice, events to the main site."""
