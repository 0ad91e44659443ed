"""A doctor for one's own images: pictures are looked at, predictions diagnosed, a page written to act on."""
