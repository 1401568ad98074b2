"""The designs: what is asked, refused, formulated, cleared, recorded."""
