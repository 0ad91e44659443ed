"""A finished run at work on images of one's own: labels, maps, ONNX."""
