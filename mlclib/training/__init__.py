"""One run: images or cached maps in, trained weights and predictions out."""
