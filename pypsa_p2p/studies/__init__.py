"""What is done with markets: compared, swept, drawn, from a terminal."""
