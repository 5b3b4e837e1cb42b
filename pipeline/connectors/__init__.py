"""What talks to the outside world: message sources that are pulled, and sinks that take lists and rows."""
