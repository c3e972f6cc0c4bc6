"""What goes into the venue, what comes out, and the rows it keeps."""
